'use strict';

const fs = require('node:fs');
const { failure } = require('../helpers/promises');
const { useWorld } = require('../helpers/use-world');
const { problemOf } = require('../config/samples');

const world = useWorld();

const health = { interval: 1_000, timeout: 1_000, retries: 3 };

const expectRefused = (error, what) => {
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(problemOf(error)).toBe(`${what} is not supported yet`);
};

test.each([
  ['limits', () => ({ limits: { maxMemory: 1 << 30 } }), 'limits'],
  ['group', () => ({ group: 'search' }), 'group'],
  ['dependsOn', () => ({ dependsOn: ['other'] }), 'dependsOn'],
  ["socket: 'manager'", () => ({ socket: 'manager' }), "socket 'manager'"],
  ['readiness by http', () => ({ readiness: { type: 'http' } }), "readiness.type 'http'"],
  ['readiness by exec', () => ({ readiness: { type: 'exec', command: 'true' } }), "readiness.type 'exec'"],
  ['readiness by notify', () => ({ readiness: { type: 'notify' } }), "readiness.type 'notify'"],
  ['probe http', () => ({ healthcheck: { ...health, probe: { type: 'http' } } }), "healthcheck.probe.type 'http'"],
  ['probe exec', () => ({ healthcheck: { ...health, probe: { type: 'exec', command: 'true' } } }), "healthcheck.probe.type 'exec'"],
  ['probe notify', () => ({ healthcheck: { ...health, probe: { type: 'notify' } } }), "healthcheck.probe.type 'notify'"],
])('not supported yet: startProcess refuses %s with ERR_INVALID_CONFIG', async (_, option, field) => {
  const manager = world.manager();
  const error = await failure(manager.startProcess({ ...world.config(), ...option(world.dir) }));
  expectRefused(error, field);
  expect(error.pluginName).toBe('plugin');
  expect(manager.listProcesses()).toEqual([]);
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test.each([
  ['upgradeProcess', ['plugin']],
  ['startGroup', [[]]],
  ['stopGroup', ['search']],
])('not supported yet: %s rejects and leaves a running plugin alone', async (method, args) => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const promise = manager[method](...args);
  expectRefused(await failure(promise), method);
  expect(manager.isRunning('plugin')).toBe(true);
});

test.each(['getMetrics', 'metricsText'])('not supported yet: %s throws', (method) => {
  const manager = world.manager();
  let error;
  try {
    manager[method]();
  } catch (caught) {
    error = caught;
  }
  expectRefused(error, method);
});
