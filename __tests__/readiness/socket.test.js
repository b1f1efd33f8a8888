'use strict';

const fs = require('node:fs');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { record } = require('../helpers/events');
const { testOnLinux, testWith } = require('../helpers/needs');
const { watch } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

/** The probes that pass for a daemon that listens. `listen` is the default. */
const TYPES = ['listen', 'socket'];

test.each(TYPES)('readiness %s: a listening child of the leader counts', async (type) => {
  const manager = world.manager();
  await manager.startProcess(world.config('wrapped', ['waits-for-a-listening-child.py'], { readiness: { type } }));
  expect(manager.isRunning('wrapped')).toBe(true);
  expect(await connects(world.socket('wrapped'))).toBe(true);
});

testOnLinux.each(TYPES)('readiness %s: a socket that an exited child bound for the daemon counts, for health checks too', async (type) => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(
    world.config('launched', ['child-binds-for-it.py'], {
      readiness: { type },
      healthcheck: { interval: 20, timeout: 2_000, retries: 1 },
    }),
  );
  expect(manager.isRunning('launched')).toBe(true);
  expect(await connects(world.socket('launched'))).toBe(true);
  // Health checks pass too.
  await until(() => events.of('health').length >= 3);
  expect(events.of('health').filter(({ healthy }) => !healthy)).toEqual([]);
});

test.each(TYPES)('readiness %s: a bound socket that does not listen yet does not count', async (type) => {
  const manager = world.manager();
  const go = world.path('go');
  const start = watch(manager.startProcess(world.config('late', ['listens-late.py', go], { readiness: { type } })));
  await until(() => manager.getOutput('late').includes('bound'));
  // An implementation that takes the socket file for readiness had many chances by now.
  for (let tries = 0; tries < 20; tries++) expect(await connects(world.socket('late'))).toBe(false);
  expect(start.settled).toBe(false);
  expect(manager.getState('late')).toBe('starting');

  fs.writeFileSync(go, '');
  await start.promise;
  expect(await connects(world.socket('late'))).toBe(true);
});

test.each(TYPES)('readiness %s: is noticed within 600 ms after a long start', async (type) => {
  const manager = world.manager();
  const go = world.path('go');
  const start = watch(manager.startProcess(world.config('late', ['listens-late.py', go], { readiness: { type } })));
  await until(() => manager.getOutput('late').includes('bound'));
  // Long enough for a doubling poll interval to reach seconds.
  const bound = performance.now();
  await until(() => performance.now() - bound > 1_200);
  fs.writeFileSync(go, '');
  const written = performance.now();
  await start.promise;
  expect(performance.now() - written).toBeLessThan(600);
});

testWith('strace').each(
  TYPES.flatMap((type) => ['inotify_init1:error=EMFILE', 'inotify_add_watch:error=ENOSPC'].map((call) => [type, call])),
)('readiness %s: is polled when inotify fails with %s', async (type, injection) => {
  const owner = commandedOwner();
  // This start makes the supervisor's thread, and needs no inotify watch.
  expect((await owner.asks('startProcess', config('other', [], { command: '/no/such' }))).error.code).toBe('ERR_SPAWN');
  const fault = await inject(world, await supervisorThread(owner), [injection]);
  const start = owner.asks('startProcess', config('plugin', ['listens-late.py', world.path('go')], { readiness: { type } }));
  await until(() => fs.existsSync(world.socket('plugin')));
  fs.writeFileSync(world.path('go'), '');
  expect(await start).toEqual({});
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  await fault.stop();
  expect(fault.injected()).toBeGreaterThan(0);
  await expectStartAndStop(owner);
});
