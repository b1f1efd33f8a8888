'use strict';

const { record } = require('../helpers/events');
const { identify } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useStartAndStop } = require('./start-and-stop');

const world = useWorld();
const { stop, started } = useStartAndStop(world);

test('ERR_STOPPED: stopProcess ends a start, which rejects, and leaves nothing', async () => {
  const manager = world.manager();
  const events = record(manager);
  const start = watch(manager.startProcess(world.config('plugin', ['never-binds.py'])));
  const daemon = identify(await until(() => manager.getPid('plugin')));
  await stop(manager);
  expectNothingLeft(world, 'plugin', [daemon]);
  expect(manager.getState('plugin')).toBe('stopped');

  const error = await failure(start.promise);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_STOPPED', pluginName: 'plugin' });
  await until(() => events.states('plugin').includes('stopped'));
  expect(events.states('plugin')).toEqual(['starting', 'stopping', 'stopped']);
});

test('ERR_STOPPED: stopProcess in the turn of the start ends it as well', async () => {
  const manager = world.manager();
  const start = watch(manager.startProcess(world.config('plugin')));
  await stop(manager);
  expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
  expect(manager.getState('plugin')).toBe('stopped');
  expectNothingLeft(world, 'plugin');
});

test('shutdownGracePeriod: a stop of a starting daemon grants it, to the whole tree', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  const start = watch(
    manager.startProcess(
      world.config('plugin', ['leads-a-tree.py', marker, '--never-bind', 'stubborn', 'fled'], {
        shutdownGracePeriod: 300,
      }),
    ),
  );
  const family = Object.values(await world.tree(marker));
  const took = await stop(manager);
  expect(took).toBeGreaterThanOrEqual(295);
  expectNothingLeft(world, 'plugin', family);
  expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
});

test('startProcess: succeeds after five stopped starts', async () => {
  const manager = world.manager();
  for (let round = 0; round < 5; round++) {
    const start = watch(manager.startProcess(world.config('plugin')));
    await manager.stopProcess('plugin');
    expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
  }
  await started(manager);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(await connects(world.socket('plugin'))).toBe(true);
});
