'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { until } = require('../helpers/until');
const { expectCleared, useWorld } = require('../helpers/use-world');
const { EXACT, crash, runningAgain, starts } = require('./crash');

const world = useWorld();

test('restart.maxAttempts: ERROR after the last attempt, with the last failure', async () => {
  const manager = world.manager();
  const events = record(manager);
  const counter = world.path('starts');
  await manager.startProcess(
    world.config('plugin', ['differs-by-start.py', counter, 'good', 'refuse'], {
      restart: { ...EXACT, maxAttempts: 2, delay: 10 },
    }),
  );
  await crash(manager);
  await until(() => manager.getState('plugin') === 'error');
  expect(starts(counter)).toBe(3);

  const info = manager.getProcessInfo('plugin');
  expect(info.lastError).toMatch(/^Maximum restart attempts exceeded \(2\): the process exited with code 3 before it was ready/);
  expect(info.lastError).toContain('refused at start 3');
  expect(info.lastError).not.toContain('refused at start 2');
  expect(info.lastExit).toMatchObject({ code: 3 });
  expect(info.nextRestartAt).toBeUndefined();
  expect(info.pid).toBeUndefined();
  await expectCleared(world, 'plugin');
  await until(() => events.states('plugin').includes('error'));
  const states = events.states('plugin');
  expect(states.at(-1)).toBe('error');
  // No state is announced twice in a row.
  expect(states.filter((state, index) => state === states[index - 1])).toEqual([]);

  // A start by the caller counts from the beginning.
  fs.rmSync(counter);
  await manager.startProcess(manager.getProcessInfo('plugin').config);
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running', restartAttempts: 0 });
  expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
});

test('restart.maxAttempts: an attempt that is not ready within startupTimeout counts', async () => {
  const manager = world.manager();
  const counter = world.path('starts');
  await manager.startProcess(
    world.config('plugin', ['differs-by-start.py', counter, 'good', 'never', 'never', 'good'], {
      restart: { ...EXACT, maxAttempts: 2, delay: 0 },
      startupTimeout: 700,
    }),
  );
  await crash(manager);
  await until(() => manager.getState('plugin') === 'error');
  expect(starts(counter)).toBe(3);
  const { lastError } = manager.getProcessInfo('plugin');
  expect(lastError).toContain(`Maximum restart attempts exceeded (2): Timeout waiting for socket: ${world.socket('plugin')}`);
  await expectCleared(world, 'plugin');
});

test('restart.maxAttempts: a successful attempt resets the count', async () => {
  const manager = world.manager();
  const events = record(manager);
  const counter = world.path('starts');
  await manager.startProcess(
    world.config('plugin', ['differs-by-start.py', counter, 'good', 'refuse', 'refuse', 'good', 'refuse', 'refuse', 'good'], {
      restart: { ...EXACT, maxAttempts: 3, delay: 5, backoff: 'constant' },
    }),
  );
  for (const expected of [4, 7]) {
    await crash(manager);
    await until(() => starts(counter) === expected && manager.isRunning('plugin'));
    expect(manager.getProcessInfo('plugin').restartAttempts).toBe(0);
  }
  await until(() => events.of('restart').length === 6);
  expect(events.of('restart').map(({ attempt }) => attempt)).toEqual([1, 2, 3, 1, 2, 3]);
});

test('restart.maxAttempts: 0 leads to ERROR at the first crash', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { maxAttempts: 0 } }));
  await crash(manager);
  await until(() => manager.getState('plugin') === 'error');
  const info = manager.getProcessInfo('plugin');
  expect(info.lastError).toBe('the process was killed by SIGKILL');
  expect(info).toMatchObject({ restartAttempts: 0, totalRestarts: 0, lastExit: { signal: 'SIGKILL', reason: 'crashed' } });
  expect(events.of('restart')).toEqual([]);
  await until(() => events.states('plugin').length === 3);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'error']);
  await expectCleared(world, 'plugin');
});

test('restart.window: ERROR beyond the limit, though every restart succeeded', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(
    world.config('plugin', ['serves.py'], {
      restart: { delay: 0, maxAttempts: 100, window: { limit: 2, period: 60_000 } },
    }),
  );
  for (let round = 0; round < 2; round++) await runningAgain(manager, await crash(manager));
  await crash(manager);
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin')).toMatchObject({ totalRestarts: 2 });
  expect(manager.getProcessInfo('plugin').lastError).toBe(
    'too many restarts: more than 2 within 60000 ms: the process was killed by SIGKILL',
  );
  expect(events.of('restart')).toHaveLength(2);
  await expectCleared(world, 'plugin');
});

test('restart.window: restarts older than the period do not count', async () => {
  const manager = world.manager();
  await manager.startProcess(
    world.config('plugin', ['serves.py'], {
      restart: { delay: 0, window: { limit: 1, period: 200 } },
    }),
  );
  for (let round = 1; round <= 3; round++) {
    const daemon = await crash(manager);
    await runningAgain(manager, daemon);
    const since = performance.now();
    await until(() => performance.now() - since > 300);
    expect(manager.getProcessInfo('plugin').totalRestarts).toBe(round);
  }
});
