'use strict';

// The core dump of an owner takes seconds. Until it is complete, the owner's descriptors and locks stay.

const fs = require('node:fs');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { alive, identify, status } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { PYTHON } = require('../helpers/python');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config } = useCommandedOwner(world);

const PROGRAM = path.join(__dirname, '..', 'fixtures', 'programs', 'holds-core-dumps.py');

/** An owner of a running daemon, whose core dump has begun and is held. `finish` lets the kernel go on. */
async function dumpingOwner() {
  const folder = world.path('cores');
  fs.mkdirSync(folder);
  const holder = spawn(PYTHON, ['-S', '-E', PROGRAM, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
  world.finally(() => holder.kill('SIGKILL'));
  let said = '';
  holder.stdout.setEncoding('utf8').on('data', (text) => (said += text));
  await until(() => said.startsWith('ready\n'));
  const owner = commandedOwner({}, { cwd: folder, before: ['sh', '-c', 'ulimit -c unlimited; exec "$@"', 'sh'] });
  expect(await owner.asks('startProcess', config())).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  owner.child.kill('SIGABRT');
  await until(() => said === `ready\n${owner.pid}\n`);
  expect(status(owner.pid, 'CoreDumping')).toBe('1');
  return { owner, daemon, finish: () => holder.stdin.write('\n') };
}

function observed() {
  const warnings = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (text) => warnings.push(text) };
  return { manager: world.manager({ logger }), warnings };
}

testWith('held core dumps')('dead owner: a start waits for the end of its core dump, and startupTimeout begins then', async () => {
  const { owner, daemon, finish } = await dumpingOwner();
  const { manager, warnings } = observed();
  const began = performance.now();
  // Without the dump, the start would wait for the grace period and 2 s.
  const start = watch(manager.startProcess(config('plugin', ['serves.py'], { shutdownGracePeriod: 0, startupTimeout: 2_000 })));
  await until(() => start.settled || performance.now() - began > 2_500);
  expect(start.settled).toBe(false);
  expect([alive(daemon), manager.getState('plugin')]).toEqual([true, 'starting']);
  expect(warnings).toEqual([expect.stringMatching(new RegExp(`process ${owner.pid}\\b.*core dump`))]);
  finish();
  await start.promise;
  expect(alive(daemon)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
});

testWith('held core dumps')('stopProcess and an aborted signal end the wait for a core dump', async () => {
  const { daemon, finish } = await dumpingOwner();
  const { manager, warnings } = observed();
  const first = manager.startProcess(config());
  await until(() => warnings.length === 1);
  await manager.stopProcess('plugin');
  expect((await failure(first)).code).toBe('ERR_STOPPED');

  const abort = new AbortController();
  const second = manager.startProcess(config(), { signal: abort.signal });
  await until(() => warnings.length === 2);
  abort.abort(new Error('enough'));
  expect((await failure(second)).message).toBe('enough');
  expect(alive(daemon)).toBe(true);
  finish();
  await manager.startProcess(config());
  expect(alive(daemon)).toBe(false);
});

testWith('held core dumps')('dead owner: without its lock file, its core dump is waited for as well', async () => {
  const { daemon, finish } = await dumpingOwner();
  fs.rmSync(`${world.folder('plugin')}/daemon.lock`);
  const { manager, warnings } = observed();
  const start = watch(manager.startProcess(config('plugin', ['serves.py'], { shutdownGracePeriod: 5_000 })));
  await until(() => start.settled || warnings.length === 1);
  expect(start.settled).toBe(false);
  finish();
  await start.promise;
  expect(alive(daemon)).toBe(false);
});
