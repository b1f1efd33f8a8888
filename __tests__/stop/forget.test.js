'use strict';

const fs = require('node:fs');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useStartAndStop } = require('./start-and-stop');

const world = useWorld();
const { stop, started } = useStartAndStop(world);

test('forgetProcess: a stopped plugin stays known with its output until it is forgotten', async () => {
  const manager = world.manager();
  expect(manager.forgetProcess('plugin')).toBe(false);

  fs.writeFileSync(world.path('text'), 'hello\n');
  await started(manager, ['prints-files.py', 1, world.path('text')]);
  await until(() => manager.getOutput('plugin').length === 1);
  expect(manager.forgetProcess('plugin')).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);

  await stop(manager);
  expect(manager.getState('plugin')).toBe('stopped');
  expect(manager.getOutput('plugin')).toEqual(['hello']);
  expect(manager.listProcesses()).toHaveLength(1);

  expect(manager.forgetProcess('plugin')).toBe(true);
  expect(manager.getState('plugin')).toBeUndefined();
  expect(manager.getProcessInfo('plugin')).toBeUndefined();
  expect(manager.getOutput('plugin')).toEqual([]);
  expect(manager.listProcesses()).toEqual([]);
  expect(manager.forgetProcess('plugin')).toBe(false);

  await started(manager);
  expect(manager.isRunning('plugin')).toBe(true);
});

test('forgetProcess: works in ERROR, and returns false while starting or stopping', async () => {
  const manager = world.manager();
  await failure(manager.startProcess(world.config('failed', ['exits.py', '--code', 1])));
  expect(manager.forgetProcess('failed')).toBe(true);
  expect(manager.getState('failed')).toBeUndefined();

  const start = watch(manager.startProcess(world.config('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 300 })));
  expect(manager.forgetProcess('plugin')).toBe(false);
  await start.promise;
  const stopping = manager.stopProcess('plugin');
  expect(manager.forgetProcess('plugin')).toBe(false);
  await stopping;
  expect(manager.forgetProcess('plugin')).toBe(true);
});
