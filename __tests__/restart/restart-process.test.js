'use strict';

const { record } = require('../helpers/events');
const { alive, identify } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { EXACT, crash, starts } = require('./crash');

const world = useWorld();

async function pending(manager, delay) {
  const counter = world.path('starts');
  await manager.startProcess(world.config('plugin', ['differs-by-start.py', counter, 'good'], { restart: { ...EXACT, delay } }));
  await crash(manager);
  await until(() => manager.getProcessInfo('plugin').nextRestartAt);
  return counter;
}

test('stopProcess: cancels a pending restart', async () => {
  const manager = world.manager();
  const events = record(manager);
  const counter = await pending(manager, 300);
  const { nextRestartAt } = manager.getProcessInfo('plugin');
  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopped');
  expect(manager.getProcessInfo('plugin').nextRestartAt).toBeUndefined();
  expectNothingLeft(world, 'plugin');

  await until(() => Date.now() > nextRestartAt.getTime() + 200);
  expect(starts(counter)).toBe(1);
  expect(manager.getState('plugin')).toBe('stopped');
  expect(events.states('plugin').slice(0, 3)).toEqual(['starting', 'running', 'starting']);
  expect(events.states('plugin').at(-1)).toBe('stopped');
});

test('ERR_ALREADY_RUNNING: a start during a pending restart is refused as starting while the old tree lives', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await manager.startProcess(
    world.config('plugin', ['leads-a-tree.py', marker, 'stubborn'], { restart: { delay: 0 }, shutdownGracePeriod: 1_000 }),
  );
  const { stubborn } = await world.tree(marker);
  await crash(manager);
  const error = await failure(manager.startProcess(world.config()));
  expect(alive(stubborn)).toBe(true);
  expect(error).toMatchObject({ code: 'ERR_ALREADY_RUNNING', pluginName: 'plugin' });
  expect(error.message).toContain('already starting');
});

test('restartProcess: does not wait for a pending restart', async () => {
  const manager = world.manager();
  const counter = await pending(manager, 20_000);
  await manager.restartProcess('plugin');
  expect(manager.isRunning('plugin')).toBe(true);
  expect(starts(counter)).toBe(2);
  expect(manager.getProcessInfo('plugin').nextRestartAt).toBeUndefined();
});

test('restartProcess: stops and starts with the same configuration and counts no attempt', async () => {
  const manager = world.manager();
  const events = record(manager);
  const config = world.config('plugin', ['serves.py'], { envVars: { A: '1' } });
  await manager.startProcess(config);
  const daemon = identify(manager.getPid('plugin'));

  await expect(manager.restartProcess('plugin')).resolves.toBeUndefined();
  expect(alive(daemon)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
  const info = manager.getProcessInfo('plugin');
  expect(info).toMatchObject({ restartAttempts: 0, config, lastExit: { pid: daemon.pid, code: 0, reason: 'stopped' } });
  expect(info.pid).not.toBe(daemon.pid);
  expect(await connects(world.socket('plugin'))).toBe(true);

  await until(() => events.states('plugin').length === 6);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'stopping', 'stopped', 'starting', 'running']);
  expect(events.of('restart').filter(({ attempt }) => attempt > 0)).toEqual([]);
});

test('restartProcess: starts a failed and a stopped plugin', async () => {
  const manager = world.manager();
  const config = world.config('plugin', ['differs-by-start.py', world.path('starts'), 'refuse', 'good']);
  await failure(manager.startProcess(config));
  await manager.restartProcess('plugin');
  expect(manager.isRunning('plugin')).toBe(true);
  await manager.stopProcess('plugin');
  await manager.restartProcess('plugin');
  expect(manager.isRunning('plugin')).toBe(true);
  expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
});

test('restartProcess: a failing start rejects as startProcess does', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['differs-by-start.py', world.path('starts'), 'good', 'refuse']));
  const error = await failure(manager.restartProcess('plugin'));
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3, pluginName: 'plugin' });
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'error', totalRestarts: 0 });
  expectNothingLeft(world, 'plugin');
});

test('restartProcess: ERR_NOT_FOUND for an unknown plugin', async () => {
  const error = await failure(world.manager().restartProcess('nobody'));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_NOT_FOUND', pluginName: 'nobody' });
});
