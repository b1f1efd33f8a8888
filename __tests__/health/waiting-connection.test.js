'use strict';

// The connection of a check that still waits in the daemon's queue: the next check asks about it, and makes no other one.

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useHealthChecks } = require('./checks');

const world = useWorld();
const { checks, healthy, sick, started } = useHealthChecks(world);

testOnLinux.each([
  ['socket', healthy],
  ['accept', sick],
])('healthcheck.probe %s: 25 checks of a blocked daemon leave room in a queue of 5', async (type, expected) => {
  const manager = world.manager();
  const events = record(manager);
  await started(manager, ['never-accepts.py', 5], { probe: { type }, interval: 10, timeout: 10, retries: 1_000 });
  await checks(events, 25);
  expect(events.of('health').filter((event) => !expected(event))).toEqual([]);
  // Six fit into the queue: the check's and these.
  for (let client = 0; client < 5; client++) expect(await connects(world.socket('plugin'))).toBe(true);
});

testOnLinux.each(['socket', 'accept'])('healthcheck.probe %s: a daemon that was busy finds one connection of all checks', async (type) => {
  const manager = world.manager();
  const events = record(manager);
  const marker = world.path('count');
  await started(manager, ['counts-connections.py', 600, marker], { probe: { type }, interval: 20, timeout: 20, retries: 1_000 });
  expect(await until(() => fs.existsSync(marker) && fs.readFileSync(marker, 'utf8'))).toBe('1');
  expect(events.of('health').length).toBeGreaterThan(5);
  // The daemon accepts again, and so each check passes.
  await checks(events, 5, healthy);
});

testOnLinux('healthcheck.probe socket: the daemon reads end of file before the next check', async () => {
  const manager = world.manager();
  const events = record(manager);
  const marker = world.path('read');
  await started(manager, ['reads-to-end.py', marker], { interval: 1_000 });
  await until(() => fs.existsSync(marker));
  expect(events.of('health').length).toBeLessThan(2);
});

testOnLinux('healthcheck.probe socket: a waiting connection is closed at a stop', async () => {
  const manager = world.manager();
  const events = record(manager);
  await started(manager, ['drains-at-stop.py'], { interval: 20 }, { shutdownGracePeriod: 10_000 });
  await checks(events, 2);
  await manager.stopProcess('plugin');
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'stopped' });
});

testOnLinux('healthcheck.probe accept: a waiting connection is given up when socketPath is another file', async () => {
  const manager = world.manager();
  const events = record(manager);
  await started(manager, ['listens-twice.py'], { probe: { type: 'accept' }, interval: 20, timeout: 40, retries: 1_000 });
  await checks(events, 2, sick);
  // Half a second after its start the daemon serves at a new file, and never accepts from the first one.
  await checks(events, 2, healthy);
});
