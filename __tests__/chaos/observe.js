'use strict';

// The processes of a run, read from /proc: daemons by their environment, guardians and keepers by their names.

const { environment, everyProcess, read } = require('../helpers/proc');

/** Whether a process is a daemon of this run, or descends from one. */
const belongs = (variables, envsDir) => variables.get('SOCKET_PATH')?.startsWith(`${envsDir}/`) ?? false;

/** The daemons of this run and all their descendants. */
function trees(envsDir) {
  const found = [];
  for (const process of everyProcess()) {
    const variables = environment(process.pid);
    if (!belongs(variables, envsDir)) continue;
    const [owner, plugin, limits] = ['CHAOS_OWNER', 'CHAOS_NAME', 'CHAOS_LIMITS'].map((name) => variables.get(name));
    found.push({ ...process, owner, plugin, limits });
  }
  return found;
}

/** The limit of open files and the umask of a process, as CHAOS_LIMITS has them. Undefined if it is gone. */
function limitsOf(pid) {
  const [, files] = /^Max open files +(\d+)/m.exec(read(`/proc/${pid}/limits`)) ?? [];
  const [, umask] = /^Umask:\t(\d+)/m.exec(read(`/proc/${pid}/status`)) ?? [];
  return files && umask && `${files} ${umask}`;
}

/** The guardians of this owner, and their keepers. */
function helpers(owner) {
  const all = everyProcess();
  const guardians = all.filter(({ ppid, name }) => ppid === owner && name === 'ally-guardian');
  const keepers = all.filter(({ ppid, name }) => name === 'ally-keeper' && guardians.some(({ pid }) => pid === ppid));
  return { guardians, keepers };
}

module.exports = { belongs, helpers, limitsOf, trees };
