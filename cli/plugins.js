'use strict';
// The plugins and their daemons, from both sources: their folders and the kernel, and the host of shared daemons.

const { readdirSync, statSync } = require('node:fs');
const path = require('node:path');

const { rowsOnDisk } = require('./disk.js');
const { hostBelow, withHost } = require('./host.js');
const { Failed } = require('./problems.js');

const LOCK_FILE = 'daemon.lock';

/** The names of the folders that have ever had a daemon. `missing`: the answer for an envs folder that does not exist. */
function pluginNames(envsDir, { missing } = {}) {
  let entries;
  try {
    entries = readdirSync(envsDir);
  } catch (error) {
    if (error.code === 'ENOENT' && missing !== undefined) return missing;
    throw new Failed(`${envsDir} can't be read: ${error.code ?? error.message}`);
  }
  return entries.filter((name) => isKnown(envsDir, name)).sort((a, b) => (a < b ? -1 : 1));
}

/** Whether the plugin has a lock file. The name comes from the command line, so it must not lead out of the folder. */
function isKnown(envsDir, name) {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) return false;
  try {
    statSync(path.join(envsDir, name, LOCK_FILE));
    return true;
  } catch (error) {
    // A folder that can't be entered is a plugin that can't be observed, and the row says so.
    return error.code === 'EACCES' || error.code === 'ELOOP';
  }
}

/** A row per name. */
function rowsOf(envsDir, names) {
  return withHost(rowsOnDisk(envsDir, names), hostBelow(envsDir));
}

/** The row of a plugin that the command line names. */
function rowOf(envsDir, name) {
  if (!isKnown(envsDir, name)) throw new Failed(`there is no plugin '${name}' below ${envsDir}`);
  return rowsOf(envsDir, [name])[0];
}

module.exports = { isKnown, pluginNames, rowOf, rowsOf };
