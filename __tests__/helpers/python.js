'use strict';

const { execFileSync } = require('node:child_process');

/** The interpreter itself: a version manager's shim would cost a shell at each start, and be another program until its exec. */
function findPython() {
  try {
    return execFileSync('python3', ['-S', '-E', '-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
  } catch (error) {
    throw new Error(`The fixtures need a python3 in PATH: ${error.message}`);
  }
}

/** jest's global setup looks for it once for all test files. */
const PYTHON = process.env.TEST_PYTHON ?? findPython();

module.exports = { PYTHON };
