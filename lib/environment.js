'use strict';

const { invalidConfig } = require('./errors.js');

/**
 * The caller's environment at this moment, as KEY=VALUE with a NUL behind each. Taken here because
 * jest's and a worker's process.env never reach the real environment, and because reading that one
 * from another thread races with whoever writes it.
 */
function environment(pluginName) {
  const { env } = process;
  let text = '';
  for (const key of Object.keys(env)) {
    const given = env[key];
    // An object in place of process.env may hold anything, and another thread may delete a variable meanwhile.
    if (given === undefined) continue;
    const value = String(given);
    // A worker's can hold what the system's can't.
    if (key.includes('\0') || value.includes('\0')) throw invalidConfig(`process.env.${key}`, 'must not contain NUL', pluginName);
    text += `${key}=${value}\0`;
  }
  return text;
}

module.exports = { environment };
