'use strict';

const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { testOnLinux } = require('../helpers/needs');

testOnLinux.each([
  ['run.mjs', 'owners'],
  ['sharing.mjs', 'sessions with shared daemons, and of their host,'],
])(
  'chaos, %s: eight seconds of random kills of %s violate no invariant',
  (program) => {
    const run = path.join(__dirname, program);
    const { status, stdout, stderr } = spawnSync(process.execPath, [run, '--seed', '7', '--seconds', '8'], {
      encoding: 'utf8',
      timeout: 100_000,
    });
    expect(`${stdout}${stderr}`).toContain('no invariant was violated');
    expect(status).toBe(0);
  },
  120_000,
);
