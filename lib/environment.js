'use strict';

const { invalidConfig } = require('./errors.js');

/**
 * The caller's environment, each variable as KEY=VALUE with a NUL behind it. It is read in JavaScript for two reasons:
 * process.env of jest and of a worker is a copy that getenv(3) does not see, and getenv(3) on another thread races with
 * setenv(3).
 */
function environment(pluginName) {
  const { env } = process;
  let text = '';
  for (const key of Object.keys(env)) {
    const given = env[key];
    // A program may replace process.env by an object with undefined values, or delete a variable on another thread meanwhile.
    if (given === undefined) continue;
    const value = String(given);
    // process.env of a worker accepts NUL, which execve(2) does not.
    if (key.includes('\0') || value.includes('\0')) throw invalidConfig(`process.env.${key}`, 'must not contain NUL', pluginName);
    text += `${key}=${value}\0`;
  }
  return text;
}

module.exports = { environment };
