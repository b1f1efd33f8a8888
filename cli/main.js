#!/usr/bin/env node
'use strict';
// The command line. Only what the verb needs is required, because `ps` must be quick.

const { Failed, UsageError, problem } = require('./problems.js');

/** 0: done. 1: it failed. 2: the usage is wrong. */
async function main(argv) {
  const { parse } = require('./arguments.js');
  const request = parse(argv);
  if (request.help !== undefined) {
    process.stdout.write(require('./help.js').helpText(request.help));
    return 0;
  }
  if (request.version) {
    process.stdout.write(`${require('../package.json').version}\n`);
    return 0;
  }
  return (await request.verb.run()(request)) ?? 0;
}

function report(error) {
  if (error instanceof UsageError) {
    problem(`${error.message}. See: ${error.help}`);
    return 2;
  }
  // An error without a code of ours is a bug, and its stack is needed.
  if (error instanceof Failed || typeof error?.code === 'string') problem(error.message);
  else process.stderr.write(`${error?.stack ?? error}\n`);
  return 1;
}

// The reader of a pipe has gone (`ally-daemons ps | head -1`): nothing is left to say.
process.stdout.on('error', (error) => {
  if (error.code !== 'EPIPE') problem(`stdout: ${error.message}`);
  process.exit(error.code === 'EPIPE' ? (process.exitCode ?? 0) : 1);
});

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    process.exitCode = report(error);
  },
);
