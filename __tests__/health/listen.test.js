'use strict';

const fs = require('node:fs');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { record } = require('../helpers/events');
const { testOnLinux, testWith } = require('../helpers/needs');
const { signal } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useHealthChecks } = require('./checks');

const world = useWorld();
const { checks, healthy, sick, started } = useHealthChecks(world);
const { commandedOwner, config, supervisorThread } = useCommandedOwner(world);

const probe = { type: 'listen' };

test('healthcheck.probe listen: passes for a stopped daemon with a full queue', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['fills-its-queue.py'], { probe, interval: 20, timeout: 100, retries: 1 });
  signal(daemon, 'SIGSTOP');
  await checks(events, 10, healthy);
  expect(events.of('health').filter(sick)).toEqual([]);
  signal(daemon, 'SIGCONT');
});

testWith('strace')('healthcheck.probe listen: nothing connects', async () => {
  const owner = commandedOwner();
  const healthcheck = { interval: 20, timeout: 500, retries: 1, probe };
  expect(await owner.asks('startProcess', config('plugin', ['parses-what-it-reads.py'], { healthcheck }))).toEqual({});
  const trace = await inject(world, await supervisorThread(owner), ['connect:delay_enter=1', 'sendto:delay_enter=1']);
  // Each check asks the kernel once.
  await until(() => trace.calls().length > 10);
  await trace.stop();
  expect(trace.calls().filter((line) => line.startsWith('connect'))).toEqual([]);
  expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({ state: 'running', failedHealthChecks: 0, totalRestarts: 0 });
});

testOnLinux('healthcheck.probe listen: fails for a daemon that no longer listens, or has no socket file', async () => {
  const manager = world.manager();
  const events = record(manager);
  const marker = world.path('go');
  await started(manager, ['stops-listening.py', marker], { probe, interval: 20, retries: 1_000 });
  await checks(events, 2, healthy);
  fs.writeFileSync(marker, '');
  await checks(events, 2, ({ error }) => error === `nobody listens at ${world.socket('plugin')}`);
  fs.unlinkSync(world.socket('plugin'));
  await checks(events, 2, ({ error }) => error?.includes('ENOENT'));
});

testOnLinux.each(['socket', 'accept', 'listen'])('healthcheck.probe %s: passes for a SOCK_SEQPACKET socket', async (type) => {
  const manager = world.manager();
  const events = record(manager);
  await started(manager, ['listens-as.py', 'seqpacket'], { probe: { type }, interval: 20, retries: 1 });
  await checks(events, 5);
  expect(events.of('health').filter(sick)).toEqual([]);
});

testOnLinux.each(['socket', 'accept'])('readiness %s: a SOCK_SEQPACKET socket is ready', async (type) => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['listens-as.py', 'seqpacket'], { readiness: { type } }));
  expect(manager.isRunning('plugin')).toBe(true);
});
