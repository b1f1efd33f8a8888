'use strict';

const { constants } = require('node:fs');
const { access, stat } = require('node:fs/promises');
const path = require('node:path');

const { makeError } = require('../errors.js');
const { printable } = require('../without-addon.js');

/** The path of the first program of this name in PATH. Without one: undefined. */
async function findProgram(name) {
  // A relative entry is left out: it depends on the working directory, which is another one for the installer.
  for (const folder of (process.env.PATH ?? '').split(path.delimiter).filter((each) => path.isAbsolute(each))) {
    const file = path.join(folder, name);
    if (await isProgram(file)) return file;
  }
  return undefined;
}

async function isProgram(file) {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}

async function needProgram(name, pluginName) {
  const found = await findProgram(name);
  if (found !== undefined) return found;
  const message = printable(`Failed to install the environment of '${pluginName}': ENOENT: program ${name} not found in PATH`);
  throw makeError({ code: 'ERR_SPAWN', message, pluginName, errno: 'ENOENT', syscall: 'spawn', path: name });
}

/** PATH of a script. The folders of the system come last, because a script needs their programs whatever PATH the owner has. */
const searchPath = (...own) => [...own, process.env.PATH, '/usr/bin', '/bin'].filter(Boolean).join(path.delimiter);

module.exports = { findProgram, needProgram, searchPath };
