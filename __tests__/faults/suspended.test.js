'use strict';

// Guardian and keepers that do not act, because they are suspended.

const fs = require('node:fs');
const path = require('node:path');
const { record } = require('../helpers/events');
const { freeze } = require('../helpers/freeze');
const { testOnLinux, testWith } = require('../helpers/needs');
const { alive, identify, signal, stat } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

const keeperOf = (pid) => identify(stat(pid).ppid);
const guardianOf = (pid) => keeperOf(keeperOf(pid).pid);

const suspend = (process) => signal(process, 'SIGSTOP');

/** A manager with a daemon, and the texts of its warnings. */
async function started(changes = {}) {
  const warnings = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (text, fields) => warnings.push({ text, ...fields }) };
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 3_000, ...changes }));
  return { manager, warnings, leader: identify(manager.getPid('plugin')) };
}

testOnLinux('stopProcess: a suspended keeper is continued after a second', async () => {
  const { manager, warnings, leader } = await started();
  const keeper = keeperOf(leader.pid);
  suspend(keeper);
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin', [leader]);
  // It got the stop signal, and not SIGKILL.
  expect(manager.getProcessInfo('plugin').lastExit.signal).not.toBe('SIGKILL');
  expect(warnings).toEqual([expect.objectContaining({ text: expect.stringContaining('keeper does not act'), keeper: keeper.pid })]);
});

testWith('ptrace').each([0, 400, 3_000])('stopProcess: a keeper that does not go on is killed (shutdownGracePeriod: %d)', async (grace) => {
  const { manager, warnings, leader } = await started({ shutdownGracePeriod: grace });
  const keeper = keeperOf(leader.pid);
  world.finally(await freeze(keeper));
  const began = performance.now();
  await manager.stopProcess('plugin');
  expect(performance.now() - began).toBeLessThan(grace + 4_000);
  expectNothingLeft(world, 'plugin', [leader, keeper]);
  expect(warnings.map(({ text }) => text)).toContainEqual(expect.stringContaining('it was killed'));
  expect(warnings.every((warning) => [undefined, keeper.pid].includes(warning.keeper))).toBe(true);
});

testOnLinux('startProcess: a suspended guardian is continued after a second', async () => {
  const { manager, leader } = await started();
  const suspended = guardianOf(leader.pid);
  suspend(suspended);
  await manager.startProcess(world.config('second'));
  expect(manager.isRunning('second')).toBe(true);
  expect(guardianOf(manager.getPid('second'))).toEqual(suspended);
});

testWith('ptrace')('startProcess: a guardian that does not go on is replaced, and there is one daemon', async () => {
  const { manager, leader } = await started();
  const events = record(manager);
  const suspended = guardianOf(leader.pid);
  world.finally(await freeze(suspended));
  await manager.startProcess(world.config('second', ['serves.py']));
  await until(() => !alive(suspended));
  expect(manager.isRunning('second')).toBe(true);
  // The keepers of the first guardian live on.
  expect(manager.getPid('plugin')).toBe(leader.pid);
  expect(events.of('exit')).toEqual([]);
  await manager.stopAllProcesses();
  expectNothingLeft(world, 'second');
});

testOnLinux('stopProcess: works with a suspended guardian, also after the keeper was killed', async () => {
  const { manager, leader } = await started({ restart: { maxAttempts: 0 } });
  suspend(guardianOf(leader.pid));
  signal(keeperOf(leader.pid), 'SIGKILL');
  await until(() => manager.getState('plugin') !== 'running');
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin', [leader]);
});

testOnLinux('the last stop: a suspended guardian ends', async () => {
  const { manager, leader } = await started();
  const suspended = guardianOf(leader.pid);
  suspend(suspended);
  await manager.stopAllProcesses();
  await until(() => !alive(suspended));
});

testOnLinux("startProcess: the suspended keeper of a dead owner with onOwnerDeath 'keep' is continued", async () => {
  const owner = world.owner('starts-and-ends.js', { configs: [world.config('plugin')], options: { onOwnerDeath: 'keep' } });
  const leader = identify((await owner.says('ready')).plugin);
  const keeper = keeperOf(leader.pid);
  owner.child.kill('SIGKILL');
  await owner.exited;
  // The keeper has taken the lock over.
  await until(() => fs.readFileSync(path.join(world.folder('plugin'), 'daemon.lock'), 'utf8').startsWith('keeper '));
  suspend(keeper);
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  expect(alive(leader)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
});

testOnLinux('startProcess: guardian and keeper of a dead owner, both suspended, are continued', async () => {
  const owner = world.owner('starts-and-ends.js', { configs: [world.config('plugin')] });
  const leader = identify((await owner.says('ready')).plugin);
  const keeper = keeperOf(leader.pid);
  const guardian = keeperOf(keeper.pid);
  suspend(keeper);
  suspend(guardian);
  owner.child.kill('SIGKILL');
  await owner.exited;
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  expect(manager.isRunning('plugin')).toBe(true);
  await until(() => ![leader, keeper, guardian].some(alive));
});
