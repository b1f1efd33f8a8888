'use strict';

const path = require('node:path');
const { once } = require('node:events');
const { spawn } = require('node:child_process');

/** Freezes a process in a way that SIGCONT does not undo. Returns a function that lets it go on. Needs `ptrace`. */
async function freeze({ pid }) {
  const program = spawn('/usr/bin/python3', ['-S', '-E', path.join(__dirname, 'freeze.py'), String(pid)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  program.stdin.on('error', () => {});
  const exited = once(program, 'exit');
  await Promise.race([once(program.stdout, 'data'), exited.then(() => Promise.reject(new Error(`pid ${pid} can't be frozen`)))]);
  return async () => {
    program.stdin.end();
    await exited;
  };
}

module.exports = { freeze };
