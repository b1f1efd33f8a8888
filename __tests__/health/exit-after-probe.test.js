'use strict';

// Daemons that exit when a probe connects: lastError names the probe.

const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

const healthcheck = { interval: 30, timeout: 500, retries: 3 };
const CHECK = 'exits when a health check connects; use probe `listen` or `exec`: the process exited with code 1';
const READINESS = 'exited just after the readiness probe had connected; use readiness `listen`: the process exited with code 0';

testOnLinux('lastError: names the health check at the third exit in a row that follows one at once', async () => {
  const manager = world.manager();
  const errors = [];
  // The restart waits long enough for the error to be read.
  const restart = { delay: 200, jitter: 0, window: { limit: 2, period: 60_000 } };
  manager.on('restart', () => errors.push(manager.getProcessInfo('plugin').lastError));
  await manager.startProcess(world.config('plugin', ['parses-what-it-reads.py'], { healthcheck, restart }));
  await until(() => manager.getState('plugin') === 'error');
  expect(errors).toHaveLength(2);
  for (const error of errors) expect(error).toMatch(/^the process exited with code 1/);
  expect(manager.getProcessInfo('plugin').lastError).toContain(CHECK);
});

testOnLinux('healthcheck.probe listen: a daemon that dies of an empty connection stays healthy', async () => {
  const manager = world.manager();
  const events = record(manager);
  const probe = { type: 'listen' };
  await manager.startProcess(world.config('plugin', ['parses-what-it-reads.py'], { healthcheck: { ...healthcheck, probe } }));
  await until(() => events.of('health').length >= 5);
  expect(events.of('health').filter(({ healthy }) => !healthy)).toEqual([]);
  expect(events.of('exit')).toEqual([]);
});

test("lastError: names readiness 'socket', if the daemon exits just after it has connected", async () => {
  const manager = world.manager();
  const changes = { readiness: { type: 'socket' }, restart: { maxAttempts: 0 } };
  // The exit may come before or after readiness.
  const start = watch(manager.startProcess(world.config('plugin', ['serves-one-connection.py'], changes)));
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastError).toContain(READINESS);
  if (start.error) expect(start.error.message).toContain(READINESS);
});
