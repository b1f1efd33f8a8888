'use strict';

const fs = require('node:fs');
const { ProcessState } = require('..');
const { DAEMONS, connects, expectNothingLeft, record, useWorld } = require('./helpers/world');
const { alive, identify, testOnLinux } = require('./helpers/processes');
const { failure, until, watch } = require('./helpers/until');

const world = useWorld();

test('resolves to nothing when the daemon of the specification answers', async () => {
  const manager = world.manager();
  const config = world.config('search-plugin', ['specification.py'], {
    args: ['daemon.py'],
    healthcheck: { interval: 30_000, timeout: 5_000, retries: 3 },
  });
  fs.copyFileSync(`${DAEMONS}/specification.py`, `${world.pluginPath}/daemon.py`);

  const promise = manager.startProcess(config);
  expect(promise).toBeInstanceOf(Promise);
  await expect(promise).resolves.toBeUndefined();

  expect(manager.isRunning('search-plugin')).toBe(true);
  expect(manager.getState('search-plugin')).toBe(ProcessState.RUNNING);
  expect(alive(manager.getPid('search-plugin'))).toBe(true);
  expect(await connects(config.socketPath)).toBe(true);

  const daemon = identify(manager.getPid('search-plugin'));
  await manager.stopProcess('search-plugin');
  expectNothingLeft(world, 'search-plugin', [daemon]);
  expect(manager.getProcessInfo('search-plugin').lastExit).toMatchObject({ pid: daemon.pid, code: 0, reason: 'stopped' });
});

test('knows nothing of a plugin that was never started', () => {
  const manager = world.manager();
  expect(manager.isRunning('nobody')).toBe(false);
  expect(manager.getState('nobody')).toBeUndefined();
  expect(manager.getPid('nobody')).toBeUndefined();
  expect(manager.getProcessInfo('nobody')).toBeUndefined();
  expect(manager.getOutput('nobody')).toEqual([]);
  expect(manager.listProcesses()).toEqual([]);
  for (const name of ['constructor', '__proto__', 'toString', '']) {
    expect(manager.isRunning(name)).toBe(false);
    expect(manager.getState(name)).toBeUndefined();
  }
});

test('is starting, with the pid of the leader, until the daemon is ready', async () => {
  const manager = world.manager();
  const go = world.path('go');
  const start = watch(manager.startProcess(world.config('late', ['listens-late.py', go])));
  const pid = await until(() => manager.getPid('late'));

  expect(manager.getState('late')).toBe('starting');
  expect(manager.isRunning('late')).toBe(false);
  expect(manager.getProcessInfo('late')).toMatchObject({ state: 'starting', pid });
  expect(manager.getProcessInfo('late').uptime).toBeUndefined();
  expect(alive(pid)).toBe(true);
  expect(start.settled).toBe(false);

  fs.writeFileSync(go, '');
  await start.promise;
  expect(manager.getPid('late')).toBe(pid);
  expect(manager.getProcessInfo('late').uptime).toBeGreaterThanOrEqual(0);
});

test.each([
  ['running', ['willing.py'], (manager) => until(() => manager.isRunning('plugin'))],
  ['starting', ['never-binds.py'], (manager) => until(() => manager.getPid('plugin'))],
  [
    'stopping',
    ['stubborn.py'],
    async (manager) => {
      await until(() => manager.isRunning('plugin'));
      manager.stopProcess('plugin');
      await until(() => manager.getState('plugin') === 'stopping');
    },
  ],
])('refuses a name that is already %s', async (state, fixture, reach) => {
  const manager = world.manager();
  const start = watch(manager.startProcess(world.config('plugin', fixture, { shutdownGracePeriod: 1_000 })));
  await reach(manager);
  const pid = manager.getPid('plugin');

  const error = await failure(manager.startProcess(world.config('plugin')));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_ALREADY_RUNNING', pluginName: 'plugin' });
  expect(error.message).toContain(`Process 'plugin' is already ${state}`);

  expect(manager.getState('plugin')).toBe(state);
  expect(manager.getPid('plugin')).toBe(pid);
  expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
  if (state === 'starting') expect(start.settled).toBe(false);
});

test('of many starts of one name at once, one spawns and the others are refused', async () => {
  const manager = world.manager();
  const counter = world.path('starts');
  const outcomes = await Promise.allSettled(
    Array.from({ length: 12 }, () => manager.startProcess(world.config('plugin', ['by-turns.py', counter, 'good']))),
  );
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const { reason } of outcomes.filter(({ status }) => status === 'rejected')) {
    expect(reason).toBeInstanceOf(Error);
    expect(reason.code).toBe('ERR_ALREADY_RUNNING');
    expect(reason.message).toMatch(/^Process 'plugin' is already (starting|running)/);
  }
  expect(fs.readFileSync(counter, 'utf8')).toBe('1');
  expect(manager.isRunning('plugin')).toBe(true);
});

test('starts again after a stop, as another process', async () => {
  const manager = world.manager();
  const pids = [];
  for (let round = 0; round < 3; round++) {
    await manager.startProcess(world.config('plugin'));
    pids.push(identify(manager.getPid('plugin')));
    await manager.stopProcess('plugin');
    expectNothingLeft(world, 'plugin', pids);
  }
  expect(new Set(pids.map(({ pid, start }) => `${pid} ${start}`)).size).toBe(3);
});

test('starts twenty plugins at once', async () => {
  const manager = world.manager();
  const names = Array.from({ length: 20 }, (_, index) => `plugin-${index}`);
  await Promise.all(names.map((name) => manager.startProcess(world.config(name))));

  const daemons = names.map((name) => identify(manager.getPid(name)));
  expect(new Set(daemons.map(({ pid }) => pid)).size).toBe(20);
  expect(daemons.every(alive)).toBe(true);
  expect(await Promise.all(names.map((name) => connects(world.socket(name))))).toEqual(names.map(() => true));

  await manager.stopAllProcesses();
  names.forEach((name, index) => expectNothingLeft(world, name, [daemons[index]]));
});

test.each([
  ['spaces and quotes', `a 'plugin' "of" mine`],
  ['a leading dash', '-rf'],
  ['letters of more than one byte', 'Größe-日本-🦀'],
  ['a backslash and a dollar', '\\$HOME'],
  ['dots inside', '..a..'],
  ['a line break', 'one\ntwo'],
  ['the name of a property of every object', '__proto__'],
])('takes a name with %s', async (_, name) => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config(name, ['willing.py'], { socketPath: world.path('s') }));
  expect(manager.isRunning(name)).toBe(true);
  expect(fs.readFileSync(world.pidFile(name), 'utf8')).toBe(`${manager.getPid(name)}\n`);
  expect(manager.listProcesses().map(({ config }) => config.pluginName)).toEqual([name]);
  await manager.stopProcess(name);
  await until(() => events.states(name).length === 4);
  expect(events.states(name)).toEqual(['starting', 'running', 'stopping', 'stopped']);
});

test('takes the longest name and the longest socket path', async () => {
  const manager = world.manager();
  const name = 'n'.repeat(255);
  const socketPath = `${world.dir}/${'s'.repeat((process.platform === 'linux' ? 107 : 103) - world.dir.length - 1)}`;
  await manager.startProcess(world.config(name, ['willing.py'], { socketPath }));
  expect(manager.isRunning(name)).toBe(true);
  expect(await connects(socketPath)).toBe(true);
});

test('counts a daemon as ready whose child is the one that listens', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('wrapped', ['wraps.py']));
  expect(manager.isRunning('wrapped')).toBe(true);
  expect(await connects(world.socket('wrapped'))).toBe(true);
});

testOnLinux('counts a daemon as ready whose socket a child that is gone has made for it', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('launched', ['lets-listen.py'], { healthcheck: { interval: 20, timeout: 2_000, retries: 1 } }));
  expect(manager.isRunning('launched')).toBe(true);
  expect(await connects(world.socket('launched'))).toBe(true);
  // And as healthy.
  await until(() => events.of('health').length >= 3);
  expect(events.of('health').filter(({ healthy }) => !healthy)).toEqual([]);
});

test('is ready only when a daemon that has bound also listens', async () => {
  const manager = world.manager();
  const go = world.path('go');
  const start = watch(manager.startProcess(world.config('late', ['listens-late.py', go])));
  await until(() => manager.getOutput('late').includes('bound'));
  // Whoever takes the socket file for readiness has had many chances by now.
  for (let tries = 0; tries < 20; tries++) expect(await connects(world.socket('late'))).toBe(false);
  expect(start.settled).toBe(false);
  expect(manager.getState('late')).toBe('starting');

  fs.writeFileSync(go, '');
  await start.promise;
  expect(await connects(world.socket('late'))).toBe(true);
});

test('notices readiness soon after the daemon listens', async () => {
  const manager = world.manager();
  const go = world.path('go');
  const start = watch(manager.startProcess(world.config('late', ['listens-late.py', go])));
  await until(() => manager.getOutput('late').includes('bound'));
  // A wait that backs off must not back off far: long enough ago that a doubling delay would be seconds.
  const bound = performance.now();
  await until(() => performance.now() - bound > 1_200);
  fs.writeFileSync(go, '');
  const written = performance.now();
  await start.promise;
  expect(performance.now() - written).toBeLessThan(600);
});

testOnLinux('accept readiness: a daemon that listens but takes no connection is not ready', async () => {
  const manager = world.manager();
  const config = world.config('hung', ['hung.py', 16], { readiness: { type: 'accept' }, startupTimeout: 700, shutdownGracePeriod: 500 });
  const error = await failure(manager.startProcess(config));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expectNothingLeft(world, 'hung');

  await manager.startProcess(world.config('silent', ['silent.py'], { readiness: { type: 'accept' } }));
  expect(manager.isRunning('silent')).toBe(true);
});

testOnLinux('accept readiness: a daemon that binds anew is ready where it accepts', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['rebinds.py'], { readiness: { type: 'accept' } }));
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('a program that starts without Python does as well', async () => {
  const manager = world.manager();
  const socketPath = world.path('node.sock');
  const source = `setTimeout(() => process.exit(9), 60000); require('net').createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH)`;
  await manager.startProcess(world.config('in-node', [], { command: process.execPath, args: ['-e', source], socketPath }));
  expect(await connects(socketPath)).toBe(true);
});
