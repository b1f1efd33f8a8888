'use strict';

const fs = require('node:fs');
const { identify } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

test('signal: abort stops the tree and the start rejects with the reason', async () => {
  const manager = world.manager();
  const controller = new AbortController();
  const marker = world.path('family');
  const start = watch(
    manager.startProcess(
      world.config('plugin', ['leads-a-tree.py', marker, '--never-bind', 'stubborn', 'fled'], { shutdownGracePeriod: 300 }),
      { signal: controller.signal },
    ),
  );
  const family = Object.values(await world.tree(marker));
  const daemon = identify(manager.getPid('plugin'));
  const reason = new Error('changed my mind');
  controller.abort(reason);
  expect(await failure(start.promise)).toBe(reason);
  await until(() => manager.getState('plugin') === 'stopped');
  expectNothingLeft(world, 'plugin', [daemon, ...family]);
});

test('signal: abort without a reason rejects with an AbortError', async () => {
  const manager = world.manager();
  const controller = new AbortController();
  const start = watch(manager.startProcess(world.config('plugin', ['never-binds.py']), { signal: controller.signal }));
  await until(() => manager.getPid('plugin'));
  controller.abort();
  const error = await failure(start.promise);
  expect(error).toBe(controller.signal.reason);
  expect(error.name).toBe('AbortError');
});

test('signal: a start with an aborted signal rejects and spawns nothing', async () => {
  const manager = world.manager();
  const reason = { any: 'thing' };
  const start = manager.startProcess(world.config(), { signal: AbortSignal.abort(reason) });
  expect(await failure(start)).toBe(reason);
  expect(manager.getPid('plugin')).toBeUndefined();
  expect(manager.isRunning('plugin')).toBe(false);
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
  expect(fs.existsSync(world.socket('plugin'))).toBe(false);
  await manager.startProcess(world.config());
  expect(manager.isRunning('plugin')).toBe(true);
});

test('signal: abort in the turn of the start leaves nothing', async () => {
  const manager = world.manager();
  const controller = new AbortController();
  const start = watch(manager.startProcess(world.config(), { signal: controller.signal }));
  controller.abort('now');
  expect(await failure(start.promise)).toBe('now');
  await until(() => manager.getState('plugin') !== 'stopping');
  expect(manager.getPid('plugin')).toBeUndefined();
  expectNothingLeft(world, 'plugin');
});

test('signal: abort after the start changes nothing; an invalid configuration is reported first', async () => {
  const manager = world.manager();
  const controller = new AbortController();
  await manager.startProcess(world.config(), { signal: controller.signal });
  expect(manager.isRunning('plugin')).toBe(true);
  await manager.stopProcess('plugin');
  controller.abort();
  expect(manager.getState('plugin')).toBe('stopped');
  const error = await failure(manager.startProcess({ ...world.config(), args: 7 }, { signal: AbortSignal.abort() }));
  expect(error.code).toBe('ERR_INVALID_CONFIG');
});

test('signal: abort between readiness and the settled promise is a stop', async () => {
  const manager = world.manager();
  for (let round = 0; round < 3; round++) {
    const controller = new AbortController();
    const reason = new Error('changed my mind');
    // The listener runs after readiness, and before the promise settles.
    manager.once('stateChange', () =>
      manager.once('stateChange', ({ to }) => {
        expect(to).toBe('running');
        controller.abort(reason);
      }),
    );
    expect(await failure(manager.startProcess(world.config(), { signal: controller.signal }))).toBe(reason);
    expect(manager.getState('plugin')).toBe('stopped');
    expect(manager.getPid('plugin')).toBeUndefined();
    expectNothingLeft(world, 'plugin');
    await new Promise((resolve) => setImmediate(resolve));
  }
});

test('signal: an abort after readiness leaves the daemon of a later restartProcess', async () => {
  const manager = world.manager();
  const controller = new AbortController();
  const reason = new Error('changed my mind');
  let restart;
  manager.on('stateChange', ({ to }) => {
    if (to !== 'running' || restart) return;
    restart = manager.restartProcess('plugin');
    controller.abort(reason);
  });
  expect(await failure(manager.startProcess(world.config(), { signal: controller.signal }))).toBe(reason);
  await restart;
  expect(manager.isRunning('plugin')).toBe(true);
});
