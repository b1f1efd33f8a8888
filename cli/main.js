#!/usr/bin/env node
'use strict';
// The command line. Only what the verb needs is required, because `ps` must be quick: each module takes 0.5 to 1 ms. What only a failure
// needs is required by it.

const fs = require('node:fs');

if (process.argv.includes('ps')) readLocksAhead();

/** 0: done. 1: it failed. 2: the usage is wrong. */
async function main(argv) {
  const { parse } = require('./arguments.js');
  const request = parse(argv);
  if (request.help !== undefined) {
    require('./stdout.js').print(require('./help.js').helpText(request.help));
    return 0;
  }
  if (request.version) {
    require('./stdout.js').print(`${require('../package.json').version}\n`);
    return 0;
  }
  return (await request.verb.run()(request)) ?? 0;
}

/**
 * `ps` looks at /proc/locks. A first reader of it waits 5 to 15 ms for the kernel (percpu_down_write: a grace period of RCU), and others
 * soon after it do not wait. So a thread begins to read while this one loads modules.
 */
function readLocksAhead() {
  try {
    const file = fs.openSync('/proc/locks');
    fs.read(file, Buffer.alloc(1), 0, 1, null, () => fs.closeSync(file));
  } catch {
    // Not Linux, or no /proc: who needs the file says so.
  }
}

function report(error) {
  const { Failed, UsageError, problem } = require('./problems.js');
  if (error instanceof UsageError) {
    problem(`${error.message}. See: ${error.help}`);
    return 2;
  }
  // An error without a code of ours is a bug, and its stack is needed.
  if (error instanceof Failed || typeof error?.code === 'string') problem(error.message);
  else process.stderr.write(`${error?.stack ?? error}\n`);
  return 1;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    process.exitCode = report(error);
  },
);
