'use strict';

// The processes of a run, read from /proc: daemons by their environment, guardians and keepers by their names.

const { environment, everyProcess } = require('../helpers/proc');

/** Whether a process is a daemon of this run, or descends from one. */
const belongs = (variables, envsDir) => variables.get('SOCKET_PATH')?.startsWith(`${envsDir}/`) ?? false;

/** The daemons of this run and all their descendants. */
function trees(envsDir) {
  const found = [];
  for (const process of everyProcess()) {
    const variables = environment(process.pid);
    if (belongs(variables, envsDir)) found.push({ ...process, owner: variables.get('CHAOS_OWNER'), plugin: variables.get('CHAOS_NAME') });
  }
  return found;
}

/** The guardians of this owner, and their keepers. */
function helpers(owner) {
  const all = everyProcess();
  const guardians = all.filter(({ ppid, name }) => ppid === owner && name === 'ally-guardian');
  const keepers = all.filter(({ ppid, name }) => name === 'ally-keeper' && guardians.some(({ pid }) => pid === ppid));
  return { guardians, keepers };
}

module.exports = { belongs, helpers, trees };
