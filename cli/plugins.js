'use strict';
// The plugins and their daemons, from both sources: their folders and the kernel, and the host of shared daemons.

const { existsSync, readdirSync, statSync } = require('node:fs');
const path = require('node:path');

const { rowsOnDisk } = require('./disk.js');

const LOCK_FILE = 'daemon.lock';

/** The names of the folders that have ever had a daemon. `missing`: the answer for an envs folder that does not exist. */
function pluginNames(envsDir, { missing } = {}) {
  let entries;
  try {
    entries = readdirSync(envsDir);
  } catch (error) {
    if (error.code === 'ENOENT' && missing !== undefined) return missing;
    throw failed(`${envsDir} can't be read: ${error.code ?? error.message}`);
  }
  return entries.filter((name) => isKnown(envsDir, name)).sort((a, b) => (a < b ? -1 : 1));
}

/** Whether the plugin has a lock file. The name comes from the command line, so it must not lead out of the folder. */
function isKnown(envsDir, name) {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) return false;
  const file = path.join(envsDir, name, LOCK_FILE);
  if (existsSync(file)) return true;
  try {
    return statSync(file, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    // A folder that can't be entered is a plugin that can't be observed, and the row says so.
    return error.code === 'EACCES' || error.code === 'ELOOP';
  }
}

/** Fails if one of the plugins has no lock file. */
function checkKnown(envsDir, names) {
  const unknown = names.filter((name) => !isKnown(envsDir, name));
  if (unknown.length > 0) throw failed(`there is no plugin '${unknown.join("', '")}' below ${envsDir}`);
}

/** A row per name. */
function rowsOf(envsDir, names) {
  const rows = rowsOnDisk(envsDir, names);
  // Where nothing was ever shared, the module is not needed.
  if (!existsSync(path.join(envsDir, `.ally-host-${process.geteuid()}`))) return rows;
  const { hostBelow, withHost } = require('./host.js');
  return withHost(rows, hostBelow(envsDir));
}

/** The row of a plugin that the command line names. */
function rowOf(envsDir, name) {
  checkKnown(envsDir, [name]);
  return rowsOf(envsDir, [name])[0];
}

function failed(message) {
  const { Failed } = require('./problems.js');
  return new Failed(message);
}

module.exports = { checkKnown, pluginNames, rowOf, rowsOf };
