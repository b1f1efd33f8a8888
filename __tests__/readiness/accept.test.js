'use strict';

const { testOnLinux } = require('../helpers/needs');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

testOnLinux('readiness accept: a daemon that listens and accepts nothing is not ready', async () => {
  const manager = world.manager();
  const config = world.config('hung', ['never-accepts.py', 16], {
    readiness: { type: 'accept' },
    startupTimeout: 700,
    shutdownGracePeriod: 500,
  });
  const error = await failure(manager.startProcess(config));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expectNothingLeft(world, 'hung');

  await manager.startProcess(world.config('silent', ['sends-nothing.py'], { readiness: { type: 'accept' } }));
  expect(manager.isRunning('silent')).toBe(true);
});

testOnLinux('readiness accept: a daemon that binds its path a second time is ready where it accepts', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['listens-twice.py'], { readiness: { type: 'accept' } }));
  expect(await connects(world.socket('plugin'))).toBe(true);
});
