'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { alive, identify, isLocked, signal } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config } = useCommandedOwner(world);

const outside = () => config('plugin', ['serves.py'], { socketPath: world.path('s'), restart: { delay: 0 } });
const lockFile = () => path.join(world.folder('plugin'), 'daemon.lock');

/** As `python3 -m venv --clear`. */
const clear = () => {
  for (const name of fs.readdirSync(world.folder('plugin'))) fs.rmSync(path.join(world.folder('plugin'), name), { recursive: true });
};

async function restarted(manager, first) {
  signal(first, 'SIGKILL');
  await until(() => manager.getPid('plugin') !== first.pid && manager.isRunning('plugin'));
  return identify(manager.getPid('plugin'));
}

test('lease: a cleared folder does not free the name, before and after a restart', async () => {
  const manager = world.manager();
  await manager.startProcess(outside());
  const first = identify(manager.getPid('plugin'));
  const other = commandedOwner();
  clear();
  const began = performance.now();
  const refused = async () => (await other.asks('startProcess', { ...outside(), shutdownGracePeriod: 30_000 })).error;
  expect(await refused()).toEqual({ ...errorWith('ERR_OWNED_ELSEWHERE'), pid: process.pid });
  expect(performance.now() - began).toBeLessThan(15_000);
  expect(alive(first)).toBe(true);

  const second = await restarted(manager, first);
  expect(isLocked(lockFile())).toBe(true);
  expect(fs.readFileSync(lockFile(), 'utf8')).toMatch(new RegExp(`^owner ${process.pid} `));
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${second.pid}\n`);
  expect(await refused()).toEqual({ ...errorWith('ERR_OWNED_ELSEWHERE'), pid: process.pid });
  expect(alive(second)).toBe(true);

  await manager.stopProcess('plugin');
  expect(fs.readdirSync(world.folder('plugin'))).toEqual(['daemon.lock']);
  expect(await other.asks('startProcess', outside())).toEqual({});
  expect((await failure(manager.startProcess(outside()))).code).toBe('ERR_OWNED_ELSEWHERE');
});

test('lease: the lock file is made anew at a restart, also without another owner', async () => {
  const manager = world.manager();
  await manager.startProcess(outside());
  clear();
  await restarted(manager, identify(manager.getPid('plugin')));
  expect(isLocked(lockFile())).toBe(true);
  await manager.stopProcess('plugin');
  await manager.startProcess(outside());
  expect(manager.isRunning('plugin')).toBe(true);
});

test('dead owner: whose folder was cleared is waited for until its tree is gone', async () => {
  const owner = commandedOwner();
  const stubborn = config('plugin', ['ignores-signals.py'], { socketPath: world.path('s'), shutdownGracePeriod: 1_000 });
  expect(await owner.asks('startProcess', stubborn)).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  clear();
  owner.child.kill('SIGKILL');
  await owner.exited;
  expect(alive(daemon)).toBe(true);
  const manager = world.manager();
  await manager.startProcess({ ...outside(), shutdownGracePeriod: 10_000 });
  expect(alive(daemon)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
});

test('lease: where the folder was replaced the second owner wins, and its record and daemon are left alone', async () => {
  const manager = world.manager();
  await manager.startProcess(outside());
  const first = identify(manager.getPid('plugin'));
  fs.renameSync(world.folder('plugin'), world.path('moved'));
  const other = commandedOwner();
  const theirs = config('plugin', ['serves.py'], { socketPath: world.path('t') });
  expect(await other.asks('startProcess', theirs)).toEqual({});
  const second = identify((await other.asks('getPid', 'plugin')).value);
  signal(first, 'SIGKILL');
  await until(() => manager.getState('plugin') === 'error', 20_000);
  expect(manager.getProcessInfo('plugin').lastError).toContain(`another live owner runs it (pid ${other.pid})`);
  await manager.stopProcess('plugin');
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${second.pid}\n`);
  expect(alive(second)).toBe(true);
});
