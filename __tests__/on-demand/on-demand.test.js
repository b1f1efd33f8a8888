'use strict';

const fs = require('node:fs');
const net = require('node:net');
const { ask } = require('../helpers/ask');
const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { alive, children, identify, signal } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');

const world = useWorld();
const IDLE = 200;

const config = (how = [], changes = {}) =>
  world.config('plugin', ['serves-descriptor-3.py', 'one', ...how], {
    socket: 'manager',
    start: 'onConnect',
    restart: { delay: 0 },
    ...changes,
  });

async function armed(how, changes, options) {
  const manager = world.manager(options);
  const events = record(manager);
  await manager.startProcess(config(how, changes));
  return { manager, events, asks: () => ask(world.socket('plugin')) };
}

/** A connection that stays open. */
async function connected() {
  const client = net.connect(world.socket('plugin'));
  await new Promise((resolve, reject) => client.once('connect', resolve).once('error', reject));
  client.on('error', () => {});
  world.finally(() => client.destroy());
  return client;
}

const isArmed = (manager) => manager.getProcessInfo('plugin').armed === true;

test("start 'onConnect': is armed without a process, and the first connection is served", async () => {
  const { manager, events, asks } = await armed();
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'stopped', armed: true });
  expect(manager.getPid('plugin')).toBeUndefined();
  expect(manager.isRunning('plugin')).toBe(false);
  // The guardian of an earlier test file may still be ending.
  await until(() => children(process.pid).length === 0);
  expect(fs.statSync(world.socket('plugin')).mode & 0o777).toBe(0o600);
  expect(events.of('stateChange').map(({ to, reason }) => [to, reason])).toEqual([['stopped', 'armed']]);

  expect(await asks()).toMatch(/^one \d+\n$/);
  await manager.whenRunning('plugin');
  expect(manager.isRunning('plugin')).toBe(true);
  expect(manager.getProcessInfo('plugin').armed).toBeUndefined();
  await until(() => events.states('plugin').length === 3);
  expect(events.of('stateChange').map(({ to, reason }) => [to, reason])).toEqual([
    ['stopped', 'armed'],
    ['starting', 'connection'],
    ['running', undefined],
  ]);
  expect(await asks()).toBe(`one ${manager.getPid('plugin')}\n`);
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin');
  expect(manager.getProcessInfo('plugin').armed).toBeUndefined();
});

testOnLinux('idleTimeout: a daemon without a connection is stopped and armed again', async () => {
  const { manager, events, asks } = await armed([], { idleTimeout: IDLE });
  const first = await asks();
  await until(() => isArmed(manager) && events.states('plugin').length === 5);
  expect(manager.getState('plugin')).toBe('stopped');
  expect(events.states('plugin')).toEqual(['stopped', 'starting', 'running', 'stopping', 'stopped']);
  expect(
    events
      .of('stateChange')
      .slice(-2)
      .map(({ reason }) => reason),
  ).toEqual(['idle', 'idle']);
  expect(events.of('exit')).toEqual([expect.objectContaining({ reason: 'idle', signal: 'SIGTERM' })]);
  expect(events.of('restart')).toEqual([]);
  const second = await asks();
  expect(second).toMatch(/^one /);
  expect(second).not.toBe(first);
});

testOnLinux('idleTimeout: an open connection keeps the daemon, also one that says nothing', async () => {
  const { manager } = await armed(['echoes'], { idleTimeout: IDLE });
  const client = await connected();
  await until(() => manager.isRunning('plugin'));
  const pid = manager.getPid('plugin');
  const end = performance.now() + 5 * IDLE;
  await until(() => performance.now() > end);
  expect(manager.getPid('plugin')).toBe(pid);
  expect(alive(identify(pid))).toBe(true);
  client.destroy();
  await until(() => isArmed(manager));
});

testOnLinux('idleTimeout: the daemon is never stopped before that time has passed since its last connection', async () => {
  const { manager, events } = await armed(['echoes'], { idleTimeout: 800 });
  for (let round = 1; round <= 3; round++) {
    const client = await connected();
    await manager.whenRunning('plugin');
    // Between two looks.
    const opened = performance.now();
    await until(() => performance.now() - opened > 200 * round + 190);
    const closed = performance.now();
    client.destroy();
    await until(() => manager.getState('plugin') === 'stopping' || isArmed(manager), 10_000, 'the idle stop');
    expect(performance.now() - closed).toBeGreaterThanOrEqual(799);
    await until(() => isArmed(manager) && events.of('exit').length === round);
  }
});

testOnLinux('idleTimeout: health checks do not keep a daemon', async () => {
  const { manager, asks } = await armed([], { idleTimeout: IDLE, healthcheck: { interval: 30, timeout: 500, retries: 3 } });
  await asks();
  await until(() => isArmed(manager));
});

testOnLinux('idleTimeout: no connection at the instant of an idle stop is refused or lost', async () => {
  const manager = world.manager();
  let stops = 0;
  manager.on('exit', ({ reason }) => (stops += reason === 'idle'));
  const answers = [];
  // Each plugin has fewer than the 20 starts in 10 s that end in ERROR.
  const turns = async (name, first) => {
    const socketPath = world.socket(name);
    await manager.startProcess({ ...config([], { idleTimeout: 100, restart: { delay: 0 } }), pluginName: name, socketPath });
    for (let turn = 0; turn < 16; turn++) {
      answers.push(await ask(socketPath));
      // Around the end of the idle time, a little earlier or later in each turn.
      const end = performance.now() + 190 + first + turn * 2;
      await until(() => performance.now() > end);
    }
  };
  await Promise.all(['a', 'b', 'c', 'd'].map((name, index) => turns(name, index * 5)));
  expect(answers.filter((answer) => !/^one \d+\n$/.test(answer))).toEqual([]);
  expect(stops).toBeGreaterThan(5);
});

test("start 'onConnect': a daemon that exits with code 0 is armed again, without a restart", async () => {
  const { manager, events, asks } = await armed(['once']);
  const pids = [];
  for (let turn = 0; turn < 3; turn++) {
    pids.push(await asks());
    await until(() => isArmed(manager));
  }
  expect(new Set(pids).size).toBe(3);
  await until(() => events.of('exit').length === 3 && events.of('stateChange').at(-1).reason === 'exited');
  expect(events.of('exit').map(({ reason }) => reason)).toEqual(['exited', 'exited', 'exited']);
  expect(events.of('restart')).toEqual([]);
});

testOnLinux("start 'onConnect': a daemon that serves one connection and exits is armed again, also while others wait", async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess({ ...config(), args: script('serves-held-once.py'), restart: { maxAttempts: 0 } });
  const answers = await Promise.all(Array.from({ length: 4 }, () => ask(world.socket('plugin'))));
  expect(new Set(answers).size).toBe(4);
  for (const answer of answers) expect(answer).toMatch(/^served \d+$/);
  await until(() => isArmed(manager) && events.of('exit').length === 4);
  expect(events.of('exit').map(({ reason, code }) => [reason, code])).toEqual(Array(4).fill(['exited', 0]));
  expect(events.of('restart')).toEqual([]);
});

testOnLinux("start 'onConnect': a crash without a connection arms again; with one that waits, the policy restarts", async () => {
  const { manager, events, asks } = await armed(['breaks-after']);
  await asks();
  await until(() => isArmed(manager) && events.of('exit').length > 0);
  expect(events.of('exit')).toEqual([expect.objectContaining({ reason: 'crashed', code: 4 })]);
  expect(events.of('restart')).toEqual([]);
  await manager.stopProcess('plugin');
  events.all.length = 0;
  await manager.startProcess(config([]));
  await asks();
  await manager.whenRunning('plugin');
  const frozen = identify(manager.getPid('plugin'));
  signal(frozen, 'SIGSTOP');
  const answer = asks();
  const pid = manager.getPid('plugin');
  await connected();
  signal(identify(pid), 'SIGKILL');
  expect(await answer).toMatch(/^one /);
  await until(() => events.of('restart').length > 0);
  expect(events.of('restart')).toEqual([expect.objectContaining({ attempt: 1, reason: 'crashed' })]);
});

test("start 'onConnect': a daemon that fails makes the waiting clients fail, at once", async () => {
  const { manager, events } = await armed(['dies'], { restart: { delay: 0, jitter: 0, maxAttempts: 2 } });
  const client = await connected();
  const closed = new Promise((resolve) => client.once('close', resolve));
  client.resume();
  await closed;
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastError).toContain('NameError: one will not start');
  expect(events.of('restart')).toHaveLength(2);
  expect(fs.existsSync(world.socket('plugin'))).toBe(false);
  expect(await failure(ask(world.socket('plugin')))).toMatchObject({ code: 'ENOENT' });
  await manager.startProcess(config([]));
  expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
  expect(await ask(world.socket('plugin'))).toMatch(/^one /);
});

test("start 'onConnect': more than 20 starts by connections within 10 s end in ERROR", async () => {
  const { manager, asks } = await armed(['once'], { restart: { delay: 0, window: { limit: 1_000, period: 10_000 } } });
  for (let turn = 0; turn < 20; turn++) {
    await asks();
    await until(() => isArmed(manager));
  }
  const client = await connected();
  await new Promise((resolve) => client.resume().once('close', resolve));
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastError).toContain('more than 20 times within 10000 ms');
});

describe('an armed plugin', () => {
  test('startProcess: ERR_ALREADY_RUNNING, already armed', async () => {
    const { manager } = await armed();
    const error = await failure(manager.startProcess(config()));
    expect(error).toMatchObject({ code: 'ERR_ALREADY_RUNNING', message: "Process 'plugin' is already armed" });
  });

  test('whenRunning: waits and starts nothing; rejects when it is disarmed', async () => {
    const { manager, asks } = await armed();
    const waiting = watch(manager.whenRunning('plugin'));
    const left = watch(manager.whenRunning('plugin'));
    await manager.restartProcess('plugin');
    expect(waiting.settled).toBe(false);
    await asks();
    await waiting.promise;
    await left.promise;
    await manager.stopProcess('plugin');
    await manager.startProcess(config());
    const disarmed = failure(manager.whenRunning('plugin'));
    await manager.stopProcess('plugin');
    expect(await disarmed).toMatchObject({ code: 'ERR_STOPPED' });
  });

  test('restartProcess: resolves, and the socket stays', async () => {
    const { manager } = await armed();
    const { ino } = fs.statSync(world.socket('plugin'));
    await manager.restartProcess('plugin');
    expect(isArmed(manager)).toBe(true);
    expect(fs.statSync(world.socket('plugin')).ino).toBe(ino);
  });

  test('stopProcess: disarms without an event, and waiting clients would fail at once', async () => {
    const { manager, events } = await armed();
    await manager.stopProcess('plugin');
    expect(events.states('plugin')).toEqual(['stopped']);
    expect(manager.getProcessInfo('plugin').armed).toBeUndefined();
    expect(fs.readdirSync(world.folder('plugin')).filter((name) => /sock/.test(name))).toEqual([]);
    expect(await failure(ask(world.socket('plugin')))).toMatchObject({ code: 'ENOENT' });
    expect(manager.forgetProcess('plugin')).toBe(true);
  });

  test('forgetProcess: false; listProcesses has it', async () => {
    const { manager } = await armed();
    expect(manager.forgetProcess('plugin')).toBe(false);
    expect(manager.listProcesses()).toHaveLength(1);
  });

  test('upgradeProcess: is armed with the new configuration, and the socket stays', async () => {
    const { manager, asks } = await armed();
    const { ino } = fs.statSync(world.socket('plugin'));
    await manager.upgradeProcess('plugin', { args: script('serves-descriptor-3.py', 'two') });
    expect(isArmed(manager)).toBe(true);
    expect(fs.statSync(world.socket('plugin')).ino).toBe(ino);
    expect(await asks()).toMatch(/^two /);
  });

  test('dependsOn: counts as running', async () => {
    const { manager } = await armed();
    await manager.startProcess(world.config('other', ['serves.py'], { dependsOn: ['plugin'] }));
    expect(isArmed(manager)).toBe(true);
  });

  test('startGroup: resolves when it is armed', async () => {
    const manager = world.manager();
    const starts = await manager.startGroup([
      world.config('other', ['serves.py'], { dependsOn: ['plugin'], group: 'all' }),
      { ...config(), group: 'all' },
    ]);
    expect(starts.map(({ pluginName }) => pluginName).sort()).toEqual(['other', 'plugin']);
    expect(isArmed(manager)).toBe(true);
    await manager.stopGroup('all');
    expectNothingLeft(world, 'plugin');
  });

  test('keeps the event loop alive, unless the manager is unref’d', async () => {
    const owner = (end) => world.owner('starts-and-ends.js', { configs: [config()], end });
    const kept = owner('wait');
    await kept.says('ready');
    expect(await ask(world.socket('plugin'))).toMatch(/^one /);
    kept.child.kill('SIGKILL');
    await kept.exited;
    const left = owner('return');
    await left.says('ready');
    expect(await left.exited).toMatchObject({ code: 0 });
  });

  test('a killed owner leaves a socket that refuses, and the next start replaces it', async () => {
    const owner = world.owner('starts-and-ends.js', { configs: [config()], end: 'wait' });
    await owner.says('ready');
    owner.child.kill('SIGKILL');
    await owner.exited;
    expect(await failure(ask(world.socket('plugin')))).toMatchObject({ code: 'ECONNREFUSED' });
    const manager = world.manager();
    await manager.startProcess(config());
    expect(await ask(world.socket('plugin'))).toMatch(/^one /);
  });
});

test("start 'onConnect': needs socket 'manager'; idleTimeout needs start 'onConnect'", async () => {
  const manager = world.manager();
  const refused = async (changes) => (await failure(manager.startProcess(world.config('plugin', ['serves.py'], changes)))).message;
  expect(await refused({ start: 'onConnect' })).toContain('start');
  expect(await refused({ start: 'onConnect' })).toContain("socket 'manager'");
  expect(await refused({ socket: 'manager', idleTimeout: 1_000 })).toContain('idleTimeout');
  expect(await refused({ socket: 'manager', start: 'onConnect', idleTimeout: 0 })).toContain('idleTimeout');
  expect(await refused({ socket: 'manager', start: 'sometimes' })).toContain('start');
  expect(manager.listProcesses()).toEqual([]);
});
