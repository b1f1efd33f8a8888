'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { alive, identify } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

const timeouts = { startupTimeout: 600, shutdownGracePeriod: 400 };

test('startupTimeout: ERR_STARTUP_TIMEOUT names the socket in fixed words', async () => {
  const manager = world.manager();
  const events = record(manager);
  const began = performance.now();
  const start = manager.startProcess(world.config('plugin', ['never-binds.py', 'looking for the model'], timeouts));
  const daemon = identify(await until(() => manager.getPid('plugin')));
  const error = await failure(start);

  expect(performance.now() - began).toBeGreaterThanOrEqual(595);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_STARTUP_TIMEOUT', pluginName: 'plugin' });
  expect(
    error.message.startsWith(`Failed to start background process 'plugin': Timeout waiting for socket: ${world.socket('plugin')}`),
  ).toBe(true);
  expect(error.stderr).toContain('looking for the model');
  expectNothingLeft(world, 'plugin', [daemon]);

  const info = manager.getProcessInfo('plugin');
  expect(info.state).toBe('error');
  expect(info.pid).toBeUndefined();
  expect(info.lastError).toContain('Timeout waiting for socket');
  expect(info.lastExit).toMatchObject({ pid: daemon.pid, reason: 'startup' });
  await until(() => events.states('plugin').includes('error'));
  expect(events.states('plugin')).toEqual(['starting', 'error']);
});

test.each([
  ['binds and never listens', ['never-listens.py'], 'nobody listens on it', {}],
  ['listens somewhere else', () => ['listens-elsewhere.py', world.path('elsewhere.sock')], 'there is no such file', {}],
  [
    'never accepts, with readiness accept,',
    ['never-accepts.py', '5'],
    'the connection was not accepted',
    { readiness: { type: 'accept' } },
  ],
])('startupTimeout: ERR_STARTUP_TIMEOUT says why a daemon that %s is not ready', async (_, fixture, reason, options) => {
  const manager = world.manager();
  const start = manager.startProcess(
    world.config('plugin', typeof fixture === 'function' ? fixture() : fixture, { ...timeouts, ...options }),
  );
  const daemon = identify(await until(() => manager.getPid('plugin')));
  const error = await failure(start);
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expect(error.message).toContain(`(not ready within 600 ms: ${reason})`);
  expectNothingLeft(world, 'plugin', [daemon]);
});

test('startupTimeout: the whole tree is gone when the start rejects', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  const start = manager.startProcess(
    world.config('plugin', ['leads-a-tree.py', marker, '--never-bind', 'stubborn', 'fled', 'grouped'], {
      startupTimeout: 1_500,
      shutdownGracePeriod: 300,
    }),
  );
  const family = Object.values(await world.tree(marker));
  expect(family).toHaveLength(3);
  expect(family.every(alive)).toBe(true);
  const leader = identify(await until(() => manager.getPid('plugin')));
  expect((await failure(start)).code).toBe('ERR_STARTUP_TIMEOUT');
  expectNothingLeft(world, 'plugin', [leader, ...family]);
});

test('startupTimeout: no second attempt and no pending restart follow', async () => {
  const manager = world.manager();
  const counter = world.path('starts');
  await failure(
    manager.startProcess(world.config('plugin', ['differs-by-start.py', counter, 'never'], { ...timeouts, restart: { delay: 0 } })),
  );
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'error', totalRestarts: 0, restartAttempts: 0 });
  // A restart without delay would come before this start resolves.
  await manager.startProcess(world.config('other'));
  expect(fs.readFileSync(counter, 'utf8')).toBe('1');
  expect(manager.getState('plugin')).toBe('error');
});
