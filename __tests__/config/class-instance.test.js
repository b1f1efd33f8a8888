'use strict';

const { useWorld } = require('../helpers/use-world');

const world = useWorld();

test('startProcess: a configuration may be an instance of a class with methods named like options', async () => {
  const fields = world.config('plugin');
  class Plugin {
    constructor() {
      Object.assign(this, fields);
    }

    get startupTimeout() {
      return 5_000;
    }

    set startupTimeout(_) {}

    start() {}

    restart() {}

    logs() {}
  }
  const manager = world.manager();
  await manager.startProcess(new Plugin());
  expect(manager.isRunning('plugin')).toBe(true);
  expect(manager.getProcessInfo('plugin').config).toEqual({ ...fields, startupTimeout: 5_000 });
  await manager.stopProcess('plugin');
});

test('stopProcess: an argument that is no object is no option', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  await Promise.all(['plugin'].map(manager.stopProcess, manager));
  expect(manager.getState('plugin')).toBe('stopped');
});
