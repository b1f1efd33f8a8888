'use strict';

const fs = require('node:fs');
const { ProcessState } = require('../..');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

test('getters: a plugin that was never started is unknown', () => {
  const manager = world.manager();
  expect(manager.isRunning('nobody')).toBe(false);
  expect(manager.getState('nobody')).toBeUndefined();
  expect(manager.getPid('nobody')).toBeUndefined();
  expect(manager.getProcessInfo('nobody')).toBeUndefined();
  expect(manager.getOutput('nobody')).toEqual([]);
  expect(manager.listProcesses()).toEqual([]);
  for (const name of ['constructor', '__proto__', 'toString', '']) {
    expect(manager.isRunning(name)).toBe(false);
    expect(manager.getState(name)).toBeUndefined();
  }
});

test('getProcessInfo: has every field, and the configuration as given', async () => {
  const manager = world.manager();
  const config = world.config('plugin', ['serves.py'], {
    envVars: { A: '1', B: undefined },
    healthcheck: { interval: 60_000, timeout: 1_000, retries: 3, probe: { type: 'socket' } },
    restart: { maxAttempts: 5, window: { limit: 10, period: 1_000 } },
    readiness: { type: 'socket' },
    killMode: 'tree',
    stopSignal: 'SIGTERM',
    socket: 'daemon',
  });
  const given = structuredClone(config);
  await manager.startProcess(config);
  const info = manager.getProcessInfo('plugin');
  expect(config).toEqual(given);
  expect(info.config).toEqual(given);
  expect(info).toMatchObject({
    state: ProcessState.RUNNING,
    pid: manager.getPid('plugin'),
    failedHealthChecks: 0,
    restartAttempts: 0,
    totalRestarts: 0,
  });
  expect(info.lastStateChange).toBeInstanceOf(Date);
  expect(Math.abs(Date.now() - info.lastStateChange.getTime())).toBeLessThan(10_000);
  expect(info.uptime).toBeGreaterThanOrEqual(0);
  for (const key of ['lastError', 'lastExit', 'nextRestartAt']) expect(info[key]).toBeUndefined();
  await until(() => manager.getProcessInfo('plugin').uptime > info.uptime);
});

test('getProcessInfo: returns a snapshot, and changing it changes nothing', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const info = manager.getProcessInfo('plugin');
  try {
    info.state = 'error';
    info.config.command = '/no/such';
  } catch {
    // a frozen snapshot is fine too
  }
  expect(manager.getState('plugin')).toBe('running');
  await manager.stopProcess('plugin');
  expect(manager.getProcessInfo('plugin').state).toBe('stopped');
  await manager.restartProcess('plugin');
  expect(manager.isRunning('plugin')).toBe(true);
});

test('listProcesses: returns the same as getProcessInfo for each plugin', async () => {
  const manager = world.manager();
  await Promise.all(['a', 'b'].map((name) => manager.startProcess(world.config(name))));
  await failure(manager.startProcess(world.config('c', ['exits.py', '--code', 1])));
  await manager.stopProcess('b');
  const list = manager.listProcesses();
  expect(Array.isArray(list)).toBe(true);
  expect(Object.fromEntries(list.map(({ config, state }) => [config.pluginName, state]))).toEqual({
    a: 'running',
    b: 'stopped',
    c: 'error',
  });
  for (const info of list) {
    const { uptime, ...rest } = info;
    const { uptime: _, ...expected } = manager.getProcessInfo(info.config.pluginName);
    expect(rest).toEqual(expected);
    expect(uptime === undefined).toBe(info.state !== 'running');
  }
});

test('lastStateChange: is the time of the last change of state', async () => {
  const manager = world.manager();
  const before = Date.now();
  await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1])));
  const { lastStateChange } = manager.getProcessInfo('plugin');
  expect(lastStateChange).toBeInstanceOf(Date);
  expect(lastStateChange.getTime()).toBeGreaterThanOrEqual(before - 1);
  expect(lastStateChange.getTime()).toBeLessThanOrEqual(Date.now() + 1);
});

test('getters: cost microseconds and never wait', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const began = performance.now();
  for (let count = 0; count < 10_000; count++) {
    manager.isRunning('plugin');
    manager.getPid('plugin');
    manager.getState('nobody');
  }
  // Microseconds each; a file or a lock would take many times that.
  expect(performance.now() - began).toBeLessThan(1_500);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('startProcess: fifteen starts at once do not block the event loop', async () => {
  const manager = world.manager();
  const listen = world.path('may-listen');
  // Each daemon is ready only after this event loop has turned and made the file, so a start that blocked it would never be.
  const starts = Array.from({ length: 15 }, (_, index) =>
    manager.startProcess(world.config(`plugin-${index}`, ['waits-for-a-file.py', listen, world.path(`began-${index}`)])),
  );
  setImmediate(() => fs.writeFileSync(listen, ''));
  await Promise.all(starts);
  expect(manager.listProcesses().filter(({ state }) => state === 'running')).toHaveLength(15);
});
