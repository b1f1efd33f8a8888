'use strict';

const { record } = require('../helpers/events');
const { failure, watch } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { EXACT, crash } = require('./crash');

const world = useWorld();
const LONG = { restart: { ...EXACT, delay: 30_000 } };

async function pending(changes = {}) {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['serves.py'], { ...LONG, ...changes }));
  await crash(manager);
  // Events come after the state that getState returns.
  await until(() => events.of('restart').length === 1 && events.states('plugin').length === 3);
  return manager;
}

test('startProcess: begins at once while a restart is pending, with the new configuration', async () => {
  const manager = await pending();
  const events = record(manager);
  const config = world.config('plugin', ['serves.py'], { ...LONG, socketPath: world.path('moved'), envVars: { NEW: '1' } });
  const [first, second] = [watch(manager.startProcess(config)), watch(manager.startProcess(config))];
  expect(await failure(second.promise)).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
  await first.promise;
  expect(await connects(world.path('moved'))).toBe(true);
  const info = manager.getProcessInfo('plugin');
  expect(info).toMatchObject({ state: 'running', restartAttempts: 0, totalRestarts: 0 });
  expect(info.config.envVars).toEqual({ NEW: '1' });
  expect(info.nextRestartAt).toBeUndefined();
  await until(() => events.states('plugin').length > 0);
  expect(events.states('plugin')).toEqual(['running']);
  expect(events.of('restart')).toEqual([]);

  // The old socket path is free for another plugin.
  await manager.startProcess(world.config('other', ['serves.py'], { socketPath: world.socket('plugin') }));
  expect(manager.isRunning('other')).toBe(true);
});

test('startProcess: a failure while a restart was pending ends in ERROR without a restart', async () => {
  const manager = await pending();
  const events = record(manager);
  const error = await failure(manager.startProcess(world.config('plugin', ['/no/such/script.py'], LONG)));
  expect(error.code).toBe('ERR_STARTUP_EXIT');
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'error', restartAttempts: 0 });
  expect(manager.getProcessInfo('plugin').nextRestartAt).toBeUndefined();
  await until(() => events.states('plugin').length > 0);
  expect(events.of('restart')).toEqual([]);
});

test('startProcess: a refused configuration leaves the pending restart as it was', async () => {
  const manager = await pending();
  await manager.startProcess(world.config('other', ['serves.py'], { socketPath: world.path('taken') }));
  const before = manager.getProcessInfo('plugin');
  const invalid = await failure(manager.startProcess({ ...world.config(), args: 7 }));
  expect(invalid.code).toBe('ERR_INVALID_CONFIG');
  const claimed = await failure(manager.startProcess(world.config('plugin', ['serves.py'], { socketPath: world.path('taken') })));
  expect(claimed).toMatchObject({ code: 'ERR_SOCKET_IN_USE', message: expect.stringContaining("plugin 'other'") });
  expect(manager.getProcessInfo('plugin')).toEqual(before);
  expect(before.nextRestartAt).toBeInstanceOf(Date);
  // The pending restart still holds its own path.
  const refused = await failure(manager.startProcess(world.config('third', ['serves.py'], { socketPath: world.socket('plugin') })));
  expect(refused.code).toBe('ERR_SOCKET_IN_USE');
});
