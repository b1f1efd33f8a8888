'use strict';

const { execFileSync } = require('node:child_process');

/** The interpreter itself: a version manager's shim in its place would cost a shell at every start. */
module.exports = function globalSetup() {
  try {
    process.env.TEST_PYTHON = execFileSync('python3', ['-S', '-E', '-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
  } catch (error) {
    throw new Error(`The fixtures need a python3 in PATH: ${error.message}`);
  }
};
