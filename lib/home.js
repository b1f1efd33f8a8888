'use strict';

const os = require('node:os');
const path = require('node:path');

/** Where plugins' folders are unless somebody says otherwise. `fail` is told why there is no such place. */
function defaultEnvsDir(fail) {
  let home = process.env.HOME;
  try {
    // Not os.homedir(), which takes an empty HOME for an answer.
    home ||= os.userInfo().homedir;
  } catch {
    fail('is needed: neither HOME nor the user database tells a home directory');
  }
  if (!path.isAbsolute(home)) fail('is needed: HOME is not an absolute path');
  return path.join(home, '.ally', 'plugin-envs');
}

module.exports = { defaultEnvsDir };
