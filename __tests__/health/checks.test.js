'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { signal } = require('../helpers/proc');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useHealthChecks } = require('./checks');

const world = useWorld();
const { checks, started, sick } = useHealthChecks(world);

test('healthcheck: checks of a healthy daemon pass', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['serves.py']);
  await checks(events, 5);
  for (const event of events.of('health')) {
    expect(event).toMatchObject({ pluginName: 'plugin', healthy: true, failures: 0, latency: expect.any(Number) });
    expect(event.latency).toBeGreaterThanOrEqual(0);
    expect(event.latency).toBeLessThan(1_000);
    expect(event.error).toBeUndefined();
  }
  expect(manager.getProcessInfo('plugin').failedHealthChecks).toBe(0);
  expect(manager.getPid('plugin')).toBe(daemon.pid);
});

async function expectSpecificationPasses(type) {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['specification.py'], { probe: { type } });
  await checks(events, 20);
  expect(events.of('health').filter(sick)).toEqual([]);
  expect(manager.getPid('plugin')).toBe(daemon.pid);
}

test('healthcheck.probe socket: the daemon of the specification passes', () => expectSpecificationPasses('socket'));
testOnLinux('healthcheck.probe accept: the daemon of the specification passes', () => expectSpecificationPasses('accept'));

test('healthcheck.interval: the first check comes one interval after readiness', async () => {
  const manager = world.manager();
  const first = new Promise((resolve) => manager.once('health', () => resolve(Date.now())));
  await started(manager, ['serves.py'], { interval: 500 });
  // Not the time of the event, which a busy event loop may tell later.
  const { lastStateChange } = manager.getProcessInfo('plugin');
  const waited = (await first) - lastStateChange.getTime();
  expect(waited).toBeGreaterThanOrEqual(450);
  expect(waited).toBeLessThan(3_000);
});

test('healthcheck: without it there are no checks', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('quiet'));
  await started(manager, ['serves.py']);
  await checks(events, 5);
  expect(events.of('health', 'quiet')).toEqual([]);
  expect(manager.getProcessInfo('quiet').failedHealthChecks).toBe(0);
});

test('healthcheck: checks end with the daemon', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('other', ['serves.py'], { healthcheck: { interval: 30, timeout: 500, retries: 3 } }));
  await started(manager, ['serves.py'], { interval: 10 });
  await checks(events, 3);
  await manager.stopProcess('plugin');
  await new Promise((resolve) => setImmediate(resolve));
  const before = events.of('health', 'plugin').length;
  const others = events.of('health', 'other').length;
  await until(() => events.of('health', 'other').length > others + 5);
  expect(events.of('health', 'plugin')).toHaveLength(before);
});

testOnLinux('healthcheck.probe accept: passes for a daemon that accepts and sends nothing', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['sends-nothing.py'], { probe: { type: 'accept' }, interval: 20 });
  await checks(events, 20);
  expect(events.of('health').filter(sick)).toEqual([]);
  expect(manager.getPid('plugin')).toBe(daemon.pid);
});

testOnLinux('healthcheck.probe accept: passes for a daemon that closes each connection at once', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['serves.py'], { probe: { type: 'accept' }, interval: 5, retries: 1 });
  await checks(events, 200);
  expect(events.of('health').filter(sick)).toEqual([]);
  expect(manager.getPid('plugin')).toBe(daemon.pid);
});

testOnLinux('healthcheck.probe accept: passes for a daemon that accepts within the timeout', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['accepts-late.py', 250], { probe: { type: 'accept' }, interval: 20, timeout: 5_000, retries: 1 });
  await checks(events, 4);
  expect(events.of('health').filter(sick)).toEqual([]);
  for (const { latency } of events.of('health')) expect(latency).toBeGreaterThanOrEqual(200);
  expect(manager.getPid('plugin')).toBe(daemon.pid);
});

testOnLinux('healthcheck.probe accept: checks never overlap', async () => {
  const manager = world.manager();
  const events = record(manager);
  const counter = world.path('accepted');
  await started(manager, ['accepts-late.py', 150, counter], { probe: { type: 'accept' }, interval: 10, timeout: 5_000, retries: 1 });
  await checks(events, 4);
  const accepted = Number(fs.readFileSync(counter, 'utf8'));
  // One connection was for the readiness, and one check may be under way.
  expect(accepted).toBeLessThanOrEqual(events.of('health').length + 2);
});

test('healthcheck.retries: a passed check resets the count of failures', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['serves.py'], { retries: 1_000, interval: 20 });
  const away = world.path('away.sock');
  for (let round = 0; round < 2; round++) {
    fs.renameSync(world.socket('plugin'), away);
    await until(() => manager.getProcessInfo('plugin').failedHealthChecks >= 2);
    expect(manager.isRunning('plugin')).toBe(true);
    fs.renameSync(away, world.socket('plugin'));
    await until(() => manager.getProcessInfo('plugin').failedHealthChecks === 0);
  }
  expect(manager.getPid('plugin')).toBe(daemon.pid);
  expect(events.states('plugin')).toEqual(['starting', 'running']);
  const counts = events.of('health').map(({ failures }) => failures);
  // Each count is the previous one plus one, or 0.
  for (const [index, count] of counts.entries()) expect([0, (counts[index - 1] ?? 0) + 1]).toContain(count);
});

test('healthcheck: a crash between two checks is reason crashed, not unhealthy', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['serves.py'], { interval: 10_000 });
  signal(daemon, 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', daemon.pid));
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ signal: 'SIGKILL', reason: 'crashed' });
  expect(events.of('health')).toEqual([]);
});
