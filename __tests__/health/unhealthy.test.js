'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { alive, signal } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useHealthChecks } = require('./checks');

const world = useWorld();
const { sick, started, healthy, checks } = useHealthChecks(world);

test('healthcheck.retries: a daemon whose socket file is gone is restarted with reason unhealthy', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['serves.py'], { retries: 2 });
  fs.unlinkSync(world.socket('plugin'));
  await until(() => runsAnew(manager, 'plugin', daemon.pid));
  await until(() => events.states('plugin').length === 5);

  expect(alive(daemon)).toBe(false);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'stopping', 'starting', 'running']);
  const failed = events.of('health').filter(sick);
  expect(failed.map(({ failures }) => failures)).toEqual([1, 2]);
  for (const { error, latency } of failed) {
    expect(error).toContain('ENOENT');
    expect(latency).toBeLessThan(1_000);
  }
  expect(events.of('exit')).toEqual([expect.objectContaining({ pid: daemon.pid, reason: 'unhealthy', code: 0 })]);
  expect(events.of('restart')).toEqual([expect.objectContaining({ attempt: 1, delay: 0, reason: 'unhealthy' })]);
  expect(manager.getProcessInfo('plugin')).toMatchObject({
    failedHealthChecks: 0,
    restartAttempts: 0,
    totalRestarts: 1,
    lastExit: { pid: daemon.pid, reason: 'unhealthy' },
  });
  expect(await connects(world.socket('plugin'))).toBe(true);
});

testOnLinux('healthcheck.probe accept: a daemon stopped by SIGSTOP fails, however long its queue', async () => {
  const manager = world.manager();
  const events = record(manager);
  // It handles SIGTERM once SIGCONT has woken it.
  const daemon = await started(manager, ['serves.py'], { probe: { type: 'accept' }, timeout: 100, retries: 3 });
  await checks(events, 2, healthy);
  signal(daemon, 'SIGSTOP');
  const passed = events.of('health').filter(healthy).length;
  await until(() => runsAnew(manager, 'plugin', daemon.pid));
  expect(alive(daemon)).toBe(false);
  // The first check after SIGSTOP fails, not only the one that finds a full queue; one check may have been under way.
  expect(events.of('health').findIndex(sick)).toBeLessThanOrEqual(passed + 1);
  await until(() => events.states('plugin').length === 5);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'stopping', 'starting', 'running']);
  expect(
    events
      .of('health')
      .filter(sick)
      .map(({ failures }) => failures),
  ).toEqual([1, 2, 3]);
  for (const { error, latency } of events.of('health').filter(sick)) {
    expect(error).toBe('the connection was not accepted within 100 ms');
    expect(latency).toBeGreaterThanOrEqual(95);
  }
});

test('healthcheck.probe socket: a daemon stopped by SIGSTOP passes while its queue has room', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['serves.py'], { interval: 20, timeout: 100, retries: 1 });
  signal(daemon, 'SIGSTOP');
  await checks(events, 10, healthy);
  expect(events.of('health').filter(sick)).toEqual([]);
  expect(manager.getPid('plugin')).toBe(daemon.pid);
  signal(daemon, 'SIGCONT');
});

testOnLinux('healthcheck.probe socket: a daemon whose queue is full of clients fails', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['fills-its-queue.py'], { interval: 20, timeout: 100, retries: 2 });
  await until(() => manager.getPid('plugin') !== daemon.pid);
  const failed = events.of('health').filter(sick);
  expect(failed.slice(0, 2).map(({ failures }) => failures)).toEqual([1, 2]);
  // A full queue may drain, so the check tries again until its timeout.
  for (const { latency } of failed.slice(0, 2)) expect(latency).toBeGreaterThanOrEqual(95);
});

testOnLinux('healthcheck.probe accept: a daemon that closes its listener over a waiting connection fails with ECONNRESET', async () => {
  const manager = world.manager();
  const events = record(manager);
  const marker = world.path('go');
  const daemon = await started(manager, ['drops-its-queue.py', marker], {
    probe: { type: 'accept' },
    interval: 20,
    timeout: 5_000,
    retries: 1_000,
  });
  await checks(events, 2, healthy);
  expect(events.of('health').filter(sick)).toEqual([]);
  fs.writeFileSync(marker, '');
  await checks(events, 2, sick);
  const [dropped, refused] = events.of('health').filter(sick);
  expect(dropped).toMatchObject({ failures: 1, error: expect.stringContaining('ECONNRESET') });
  expect(refused).toMatchObject({ failures: 2, error: expect.stringContaining('ECONNREFUSED') });
  expect(manager.getPid('plugin')).toBe(daemon.pid);
});

test('shutdownGracePeriod: an unhealthy daemon that ignores SIGTERM gets SIGKILL', async () => {
  const manager = world.manager();
  const daemon = await started(manager, ['ignores-signals.py'], { retries: 1 }, { shutdownGracePeriod: 300 });
  fs.unlinkSync(world.socket('plugin'));
  await until(() => manager.getState('plugin') === 'stopping');
  expect(manager.getPid('plugin')).toBe(daemon.pid);
  await until(() => runsAnew(manager, 'plugin', daemon.pid));
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: daemon.pid, signal: 'SIGKILL', reason: 'unhealthy' });
});

test('restart.maxAttempts: 0 leads an unhealthy daemon to ERROR', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['serves.py'], { retries: 1 }, { restart: { maxAttempts: 0 } });
  fs.unlinkSync(world.socket('plugin'));
  await until(() => manager.getState('plugin') === 'error');
  expect(alive(daemon)).toBe(false);
  expect(manager.getProcessInfo('plugin').lastError).toMatch(/^unhealthy after 1 failed health checks: .*ENOENT/);
  await until(() => events.states('plugin').length === 4);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'stopping', 'error']);
});

test("healthcheck: another process's socket at socketPath fails, is named and left alone", async () => {
  const manager = world.manager();
  const events = record(manager);
  // This daemon does not unlink its socket.
  const daemon = await started(manager, ['ignores-signals.py'], { retries: 1 }, { restart: { maxAttempts: 0 }, shutdownGracePeriod: 100 });
  const stranger = world.program(['serves.py'], { socketPath: world.path('stranger.sock') });
  await until(() => connects(world.path('stranger.sock')));
  // By rename(2), so that no check finds the path empty.
  fs.renameSync(world.path('stranger.sock'), world.socket('plugin'));
  const { ino } = fs.lstatSync(world.socket('plugin'));

  await until(() => manager.getState('plugin') === 'error');
  const [failed, ...more] = await until(() => events.of('health').some(sick) && events.of('health').filter(sick));
  expect(more).toEqual([]);
  expect(failed.error).toContain(`pid ${stranger.pid}`);
  expect(failed.error).toContain(world.socket('plugin'));
  expect(manager.getProcessInfo('plugin').lastError).toContain(`pid ${stranger.pid}`);
  expect(alive(daemon)).toBe(false);
  expect(alive(stranger)).toBe(true);
  expect(fs.lstatSync(world.socket('plugin')).ino).toBe(ino);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('stopProcess: works while an unhealthy daemon is replaced', async () => {
  const manager = world.manager();
  const daemon = await started(manager, ['ignores-signals.py'], { retries: 1 }, { shutdownGracePeriod: 400 });
  fs.unlinkSync(world.socket('plugin'));
  await until(() => manager.getState('plugin') === 'stopping');
  const error = await failure(manager.startProcess(world.config()));
  expect(error).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopped');
  expect(alive(daemon)).toBe(false);
  expect(manager.getPid('plugin')).toBeUndefined();
});

testOnLinux("healthcheck: another process's listener at socketPath is named, though the process that bound it is gone", async () => {
  const manager = world.manager();
  const events = record(manager);
  await started(manager, ['serves.py'], { retries: 1_000, interval: 20 });
  const creator = world.program(['forks-a-listener.py', world.path('heir')], { socketPath: world.socket('plugin') });
  const heir = await world.process(world.path('heir'));
  world.killAtEnd(heir);
  await until(() => !alive(creator));
  await checks(events, 2);
  const { healthy: value, error } = events.of('health').at(-1);
  expect([value, error]).toEqual([false, expect.stringContaining(`pid ${heir.pid}`)]);
});
