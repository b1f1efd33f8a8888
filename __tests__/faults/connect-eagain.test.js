'use strict';

const { useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { alive, identify } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

testWith('strace')('connect EAGAIN: a start and a health check try again', async () => {
  const owner = commandedOwner();
  await expectStartAndStop(owner);
  const fault = await inject(world, await supervisorThread(owner), ['connect:error=EAGAIN:when=1..40']);
  expect(
    await owner.asks(
      'startProcess',
      config('plugin', ['serves.py'], {
        readiness: { type: 'socket' },
        healthcheck: { interval: 20, timeout: 5_000, retries: 1 },
        restart: { maxAttempts: 0 },
      }),
    ),
  ).toEqual({});
  await until(() => fault.calls().length > 45);
  expect(fault.injected()).toBe(40);
  await fault.stop();
  expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({
    state: 'running',
    failedHealthChecks: 0,
    totalRestarts: 0,
  });
});

testWith('strace')('connect EAGAIN: a health check tries again within its timeout', async () => {
  const owner = commandedOwner();
  expect(
    await owner.asks(
      'startProcess',
      config('plugin', ['serves.py'], {
        healthcheck: { interval: 20, timeout: 10_000, retries: 1 },
        restart: { maxAttempts: 0 },
      }),
    ),
  ).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  // The daemon is ready, so only checks connect, and the first check meets all twenty failures.
  const fault = await inject(world, await supervisorThread(owner), ['connect:error=EAGAIN:when=1..20']);
  await until(() => fault.calls().length > 25);
  await fault.stop();
  expect(fault.injected()).toBe(20);
  expect(alive(daemon)).toBe(true);
  expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({
    state: 'running',
    failedHealthChecks: 0,
    totalRestarts: 0,
  });
});

testWith('strace')('connect EAGAIN: a daemon for which it persists fails its checks and is restarted', async () => {
  const owner = commandedOwner();
  await expectStartAndStop(owner);
  expect(
    await owner.asks(
      'startProcess',
      config('plugin', ['serves.py'], {
        healthcheck: { interval: 20, timeout: 100, retries: 2 },
        restart: { delay: 0 },
      }),
    ),
  ).toEqual({});
  const first = identify((await owner.asks('getPid', 'plugin')).value);
  const fault = await inject(world, await supervisorThread(owner), ['connect:error=EAGAIN']);
  await until(() => !alive(first));
  await fault.stop();
  await owner.asks('reached', 'plugin', 'running');
  expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({ state: 'running', totalRestarts: expect.any(Number) });
});
