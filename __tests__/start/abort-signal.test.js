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
  // The daemon may be further than its report.
  const daemon = identify(await until(() => manager.getPid('plugin')));
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

/** A signal that throws from the given read of `member` on. */
function unreadable(member, from = 0) {
  let reads = 0;
  const signal = new AbortController().signal;
  return new Proxy(signal, {
    get(target, key) {
      if (key === member && reads++ >= from) throw new Error('hunter2');
      const value = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

test.each([
  ['aborted', () => ({ signal: unreadable('aborted') })],
  ['addEventListener', () => ({ signal: unreadable('addEventListener') })],
  [
    'signal',
    () => ({
      get signal() {
        throw new Error('hunter2');
      },
    }),
  ],
])('signal: a getter of %s that throws rejects with ERR_INVALID_CONFIG and spawns nothing', async (_, options) => {
  const manager = world.manager();
  const error = await failure(manager.startProcess(world.config(), options()));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(error.message).toContain("options.signal can't be read");
  expect(error.message).not.toContain('hunter2');
  expect(manager.listProcesses()).toEqual([]);
});

test('signal: a reason that throws rejects with ERR_INVALID_CONFIG', async () => {
  const aborted = {
    aborted: true,
    addEventListener() {},
    get reason() {
      throw new Error('hunter2');
    },
  };
  const error = await failure(world.manager().startProcess(world.config(), { signal: aborted }));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(error.message).toContain("options.signal.reason can't be read");
});

test('signal: one that throws after the start has begun leaves the outcome of the start', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config(), { signal: unreadable('removeEventListener') });
  const start = watch(manager.startProcess(world.config('other', ['never-binds.py']), { signal: unreadable('aborted', 2) }));
  await until(() => manager.getPid('other'));
  await manager.stopProcess('other');
  expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
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
