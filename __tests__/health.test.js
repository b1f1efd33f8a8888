'use strict';

const fs = require('node:fs');
const { connects, record, useWorld } = require('./helpers/world');
const { alive, identify, signal, testOnLinux } = require('./helpers/processes');
const { failure, until } = require('./helpers/until');

const world = useWorld();

const healthy = ({ healthy: value }) => value;
const sick = ({ healthy: value }) => !value;

async function started(manager, fixture, healthcheck, changes) {
  await manager.startProcess(
    world.config('plugin', fixture, {
      healthcheck: { interval: 40, timeout: 1_000, retries: 3, ...healthcheck },
      restart: { delay: 0 },
      ...changes,
    }),
  );
  return identify(manager.getPid('plugin'));
}

/** Waits for so many more of the events that `which` accepts. */
async function checks(events, count, which = () => true) {
  const before = events.of('health').filter(which).length;
  await until(() => events.of('health').filter(which).length >= before + count);
}

test('checks of a healthy daemon pass', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['willing.py']);
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

test.each(['socket', 'accept'])('the daemon of the specification passes probe %s', async (type) => {
  if (type === 'accept' && process.platform !== 'linux') return;
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['specification.py'], { probe: { type } });
  await checks(events, 20);
  expect(events.of('health').filter(sick)).toEqual([]);
  expect(manager.getPid('plugin')).toBe(daemon.pid);
});

test('the first check comes one interval after ready', async () => {
  const manager = world.manager();
  const first = new Promise((resolve) => manager.once('health', () => resolve(performance.now())));
  let ready;
  manager.on('stateChange', ({ to }) => {
    if (to === 'running') ready = performance.now();
  });
  await started(manager, ['willing.py'], { interval: 500 });
  const at = await first;
  expect(at - ready).toBeGreaterThanOrEqual(450);
  expect(at - ready).toBeLessThan(3_000);
});

test('without a healthcheck there are none', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('quiet'));
  await started(manager, ['willing.py']);
  await checks(events, 5);
  expect(events.of('health', 'quiet')).toEqual([]);
  expect(manager.getProcessInfo('quiet').failedHealthChecks).toBe(0);
});

test('checks end with the daemon', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('other', ['willing.py'], { healthcheck: { interval: 30, timeout: 500, retries: 3 } }));
  await started(manager, ['willing.py'], { interval: 10 });
  await checks(events, 3);
  await manager.stopProcess('plugin');
  await new Promise((resolve) => setImmediate(resolve));
  const before = events.of('health', 'plugin').length;
  const others = events.of('health', 'other').length;
  await until(() => events.of('health', 'other').length > others + 5);
  expect(events.of('health', 'plugin')).toHaveLength(before);
});

describe('an unhealthy daemon', () => {
  test('is stopped and started: one that has lost its socket file', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['willing.py'], { retries: 2 });
    fs.unlinkSync(world.socket('plugin'));
    await until(() => manager.getPid('plugin') !== daemon.pid && manager.isRunning('plugin'));
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

  testOnLinux('is found by probe accept when it is stopped, however long its queue', async () => {
    const manager = world.manager();
    const events = record(manager);
    // It can't take SIGTERM before it is woken; then it is a willing one.
    const daemon = await started(manager, ['willing.py'], { probe: { type: 'accept' }, timeout: 100, retries: 3 });
    await checks(events, 2, healthy);
    signal(daemon, 'SIGSTOP');
    const passed = events.of('health').filter(healthy).length;
    await until(() => manager.getPid('plugin') !== daemon.pid && manager.isRunning('plugin'));
    expect(alive(daemon)).toBe(false);
    // At once, not when its queue was full at last: one check may have been under way.
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
      expect(error).toBeTruthy();
      expect(latency).toBeGreaterThanOrEqual(95);
    }
  });

  test('is not found by probe socket while there is room in its queue', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['willing.py'], { interval: 20, timeout: 100, retries: 1 });
    signal(daemon, 'SIGSTOP');
    await checks(events, 10, healthy);
    expect(events.of('health').filter(sick)).toEqual([]);
    expect(manager.getPid('plugin')).toBe(daemon.pid);
    signal(daemon, 'SIGCONT');
  });

  testOnLinux('is found by probe socket when its queue is full', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['hung.py', 1], { interval: 20, timeout: 100, retries: 2 });
    await until(() => manager.getPid('plugin') !== daemon.pid);
    const failed = events.of('health').filter(sick);
    expect(failed.slice(0, 2).map(({ failures }) => failures)).toEqual([1, 2]);
    // A full queue may drain: it is tried again until the time is up.
    for (const { latency } of failed.slice(0, 2)) expect(latency).toBeGreaterThanOrEqual(95);
  });

  testOnLinux('is found by probe accept when it drops what waits in its queue', async () => {
    const manager = world.manager();
    const events = record(manager);
    const marker = world.path('go');
    const daemon = await started(manager, ['drops.py', marker], {
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

  test('that ignores SIGTERM is killed after the grace period', async () => {
    const manager = world.manager();
    const daemon = await started(manager, ['stubborn.py'], { retries: 1 }, { shutdownGracePeriod: 300 });
    fs.unlinkSync(world.socket('plugin'));
    await until(() => manager.getState('plugin') === 'stopping');
    expect(manager.getPid('plugin')).toBe(daemon.pid);
    await until(() => manager.getPid('plugin') !== daemon.pid && manager.isRunning('plugin'));
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: daemon.pid, signal: 'SIGKILL', reason: 'unhealthy' });
  });

  test('is not restarted where restarting is off', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['willing.py'], { retries: 1 }, { restart: { maxAttempts: 0 } });
    fs.unlinkSync(world.socket('plugin'));
    await until(() => manager.getState('plugin') === 'error');
    expect(alive(daemon)).toBe(false);
    expect(manager.getProcessInfo('plugin').lastError).toMatch(/health|unhealthy|check/i);
    await until(() => events.states('plugin').length === 4);
    expect(events.states('plugin')).toEqual(['starting', 'running', 'stopping', 'error']);
  });

  test("is one in whose socket's place a stranger's was put: the stranger is named, and left alone", async () => {
    const manager = world.manager();
    const events = record(manager);
    // It takes nothing away when it goes.
    const daemon = await started(manager, ['stubborn.py'], { retries: 1 }, { restart: { maxAttempts: 0 }, shutdownGracePeriod: 100 });
    const stranger = world.program(['willing.py'], { socketPath: world.path('stranger.sock') });
    await until(() => connects(world.path('stranger.sock')));
    // In one step: a check in between would find nothing at all.
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

  test('can be stopped while it is being replaced', async () => {
    const manager = world.manager();
    const daemon = await started(manager, ['stubborn.py'], { retries: 1 }, { shutdownGracePeriod: 400 });
    fs.unlinkSync(world.socket('plugin'));
    await until(() => manager.getState('plugin') === 'stopping');
    const error = await failure(manager.startProcess(world.config()));
    expect(error).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
    await manager.stopProcess('plugin');
    expect(manager.getState('plugin')).toBe('stopped');
    expect(alive(daemon)).toBe(false);
    expect(manager.getPid('plugin')).toBeUndefined();
  });
});

describe('a daemon that passes', () => {
  testOnLinux('probe accept: it accepts and stays silent', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['silent.py'], { probe: { type: 'accept' }, interval: 20 });
    await checks(events, 20);
    expect(events.of('health').filter(sick)).toEqual([]);
    expect(manager.getPid('plugin')).toBe(daemon.pid);
  });

  testOnLinux('probe accept: it accepts and hangs up at once, sooner than anyone can look', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['willing.py'], { probe: { type: 'accept' }, interval: 5, retries: 1 });
    await checks(events, 200);
    expect(events.of('health').filter(sick)).toEqual([]);
    expect(manager.getPid('plugin')).toBe(daemon.pid);
  });

  testOnLinux('probe accept: it is slow, within the timeout', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['slow-accept.py', 250], { probe: { type: 'accept' }, interval: 20, timeout: 5_000, retries: 1 });
    await checks(events, 4);
    expect(events.of('health').filter(sick)).toEqual([]);
    for (const { latency } of events.of('health')) expect(latency).toBeGreaterThanOrEqual(200);
    expect(manager.getPid('plugin')).toBe(daemon.pid);
  });

  testOnLinux('probe accept: checks never overlap, so a slow daemon is not asked faster than it answers', async () => {
    const manager = world.manager();
    const events = record(manager);
    const counter = world.path('accepted');
    await started(manager, ['slow-accept.py', 150, counter], { probe: { type: 'accept' }, interval: 10, timeout: 5_000, retries: 1 });
    await checks(events, 4);
    const accepted = Number(fs.readFileSync(counter, 'utf8'));
    // One for the readiness; and one check may be under way.
    expect(accepted).toBeLessThanOrEqual(events.of('health').length + 2);
  });

  test('once in between is healthy again', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['willing.py'], { retries: 1_000, interval: 20 });
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
    // Up by one, or back to none.
    counts.forEach((count, index) => expect([0, (counts[index - 1] ?? 0) + 1]).toContain(count));
  });
});

testOnLinux("a stranger in the daemon's place is no daemon, also when whoever made its socket is gone", async () => {
  const manager = world.manager();
  const events = record(manager);
  await started(manager, ['willing.py'], { retries: 1_000, interval: 20 });
  const creator = world.program(['bequeaths.py', world.path('heir')], { socketPath: world.socket('plugin') });
  const heir = identify(Number(await until(() => fs.existsSync(world.path('heir')) && fs.readFileSync(world.path('heir'), 'utf8'))));
  world.finally(() => signal(heir, 'SIGKILL'));
  await until(() => !alive(creator));
  await checks(events, 2);
  const { healthy: value, error } = events.of('health').at(-1);
  expect([value, error]).toEqual([false, expect.stringContaining(`pid ${heir.pid}`)]);
});

test('a crash between two checks is a crash, not a failed check', async () => {
  const manager = world.manager();
  const events = record(manager);
  const daemon = await started(manager, ['willing.py'], { interval: 10_000 });
  signal(daemon, 'SIGKILL');
  await until(() => manager.getPid('plugin') !== daemon.pid && manager.isRunning('plugin'));
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ signal: 'SIGKILL', reason: 'crashed' });
  expect(events.of('health')).toEqual([]);
});
