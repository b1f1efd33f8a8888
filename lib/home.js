'use strict';

const os = require('node:os');
const path = require('node:path');

/** The user's home directory, or the problem. `given`: the value of HOME, which comes before the user database. */
function findHome(given) {
  let home = given;
  try {
    // os.homedir() would return an empty HOME.
    home ||= os.userInfo().homedir;
  } catch {
    return { problem: 'is needed: neither HOME nor the user database tells a home directory' };
  }
  return path.isAbsolute(home) ? { home } : { problem: 'is needed: HOME is not an absolute path' };
}

/** The default of `envsDir`. Without a home directory, calls `fail` with the problem. */
function defaultEnvsDir(fail) {
  const { home, problem } = findHome(process.env.HOME);
  return problem === undefined ? require('./constants.js').envsDirBelow(home) : fail(problem);
}

module.exports = { defaultEnvsDir, findHome };
