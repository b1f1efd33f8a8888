'use strict';
// The marker `.installed`: the last file that an installation writes. Its format is that of Ally.

const { readFile, stat } = require('node:fs/promises');
const path = require('node:path');

const MARKER = '.installed';

/** A longer file is none of ours. The text is passed on as an argument, which the kernel limits to 128 KiB. */
const MAX_LENGTH = 65_536;

/** The text of the marker, without newlines at its end, as a shell reads it. Without a marker that can be read: empty. */
async function readMarker(folder) {
  const text = await readFile(path.join(folder, MARKER), 'utf8').catch(() => '');
  return text.length > MAX_LENGTH || text.includes('\0') ? '' : text.replace(/\n+$/, '');
}

/** Whether the marker says 'ready', and the environment's Python, if it has one, is still there. */
async function isReady(folder) {
  return saysReady(await readMarker(folder)) && !(await hasLostItsPython(folder));
}

function saysReady(text) {
  try {
    return JSON.parse(text)?.status === 'ready';
  } catch {
    return false;
  }
}

/** An upgrade of the system's Python leaves `bin/python3` as a symlink to nothing. */
async function hasLostItsPython(folder) {
  const config = await stat(path.join(folder, 'pyvenv.cfg')).catch(() => undefined);
  if (!config) return false;
  return stat(path.join(folder, 'bin', 'python3')).then(
    () => false,
    (error) => error.code === 'ENOENT' || error.code === 'ENOTDIR',
  );
}

/** The text of a marker of a failed installation. */
function errorMarker(pluginName, error) {
  return JSON.stringify({ name: pluginName, status: 'error', error, installed_at: new Date().toISOString() }, null, 2);
}

module.exports = { MARKER, errorMarker, isReady, readMarker };
