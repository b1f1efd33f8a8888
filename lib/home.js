'use strict';

const os = require('node:os');
const path = require('node:path');

/** The user's home directory, or why there is none. `given`: the value of HOME, which wins. */
function findHome(given) {
  let home = given;
  try {
    // Not os.homedir(), which takes an empty HOME for an answer.
    home ||= os.userInfo().homedir;
  } catch {
    return { problem: 'is needed: neither HOME nor the user database tells a home directory' };
  }
  return path.isAbsolute(home) ? { home } : { problem: 'is needed: HOME is not an absolute path' };
}

/** Where plugins' folders are unless the caller says otherwise. `fail` is called with the reason if there is no such place. */
function defaultEnvsDir(fail) {
  const { home, problem } = findHome(process.env.HOME);
  return problem === undefined ? require('./constants.js').envsDirBelow(home) : fail(problem);
}

module.exports = { defaultEnvsDir, findHome };
