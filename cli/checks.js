'use strict';

const check = (status, name, seen, { plugin = null, remedy = null } = {}) => ({ status, check: name, plugin, seen, remedy, fixed: false });
const ok = (name, seen, more) => check('ok', name, seen, more);
const warning = (name, seen, more) => check('warning', name, seen, more);
const problem = (name, seen, more) => check('problem', name, seen, more);

/** A word for a shell. */
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** The command with the envs folder of this run. */
function command(verb, envsDir, ...words) {
  const { homedir } = require('node:os');
  const { envsDirBelow } = require('../lib/constants.js');
  const at = envsDir === envsDirBelow(homedir()) ? [] : ['--envs-dir', quoted(envsDir)];
  return ['ally-daemons', verb, ...words.map(quoted), ...at].join(' ');
}

module.exports = { command, ok, problem, quoted, warning };
