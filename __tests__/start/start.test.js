'use strict';

const fs = require('node:fs');
const { ProcessState } = require('../..');
const { record } = require('../helpers/events');
const { alive, identify } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { DAEMONS } = require('../helpers/world');

const world = useWorld();

test('startProcess: resolves to undefined when the daemon of the specification listens', async () => {
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

test("startProcess: state is starting, with the leader's pid, until the daemon is ready", async () => {
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
  ['running', ['serves.py'], (manager) => until(() => manager.isRunning('plugin'))],
  ['starting', ['never-binds.py'], (manager) => until(() => manager.getPid('plugin'))],
  [
    'stopping',
    ['ignores-signals.py'],
    async (manager) => {
      await until(() => manager.isRunning('plugin'));
      manager.stopProcess('plugin');
      await until(() => manager.getState('plugin') === 'stopping');
    },
  ],
])('ERR_ALREADY_RUNNING: a start is refused while the plugin is %s', async (state, fixture, reach) => {
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

test('ERR_ALREADY_RUNNING: of twelve starts of one plugin at once one spawns', async () => {
  const manager = world.manager();
  const counter = world.path('starts');
  const outcomes = await Promise.allSettled(
    Array.from({ length: 12 }, () => manager.startProcess(world.config('plugin', ['differs-by-start.py', counter, 'good']))),
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

test('startProcess: starts a stopped plugin again as a new process', async () => {
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

test('startProcess: starts twenty plugins at once', async () => {
  const manager = world.manager();
  const names = Array.from({ length: 20 }, (_, index) => `plugin-${index}`);
  await Promise.all(names.map((name) => manager.startProcess(world.config(name))));

  const daemons = names.map((name) => identify(manager.getPid(name)));
  expect(new Set(daemons.map(({ pid }) => pid)).size).toBe(20);
  expect(daemons.every(alive)).toBe(true);
  expect(await Promise.all(names.map((name) => connects(world.socket(name))))).toEqual(names.map(() => true));

  await manager.stopAllProcesses();
  for (const [index, name] of names.entries()) expectNothingLeft(world, name, [daemons[index]]);
});

test.each([
  ['spaces and quotes', `a 'plugin' "of" mine`],
  ['a leading dash', '-rf'],
  ['letters of more than one byte', 'Größe-日本-🦀'],
  ['a backslash and a dollar', '\\$HOME'],
  ['dots inside', '..a..'],
  ['a line break', 'one\ntwo'],
  ['the name of a property of every object', '__proto__'],
])('pluginName: accepts %s', async (_, name) => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config(name, ['serves.py'], { socketPath: world.path('s') }));
  expect(manager.isRunning(name)).toBe(true);
  expect(fs.readFileSync(world.pidFile(name), 'utf8')).toBe(`${manager.getPid(name)}\n`);
  expect(manager.listProcesses().map(({ config }) => config.pluginName)).toEqual([name]);
  await manager.stopProcess(name);
  await until(() => events.states(name).length === 4);
  expect(events.states(name)).toEqual(['starting', 'running', 'stopping', 'stopped']);
});

test('pluginName and socketPath: accept the greatest length', async () => {
  const manager = world.manager();
  const name = 'n'.repeat(255);
  const socketPath = `${world.dir}/${'s'.repeat((process.platform === 'linux' ? 102 : 98) - world.dir.length - 1)}`;
  await manager.startProcess(world.config(name, ['serves.py'], { socketPath }));
  expect(manager.isRunning(name)).toBe(true);
  expect(await connects(socketPath)).toBe(true);
});

test('startProcess: a daemon that is not Python starts as well', async () => {
  const manager = world.manager();
  const socketPath = world.path('node.sock');
  const source = `setTimeout(() => process.exit(9), 60000); require('net').createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH)`;
  await manager.startProcess(world.config('in-node', [], { command: process.execPath, args: ['-e', source], socketPath }));
  expect(await connects(socketPath)).toBe(true);
});

test('startProcess: succeeds after failed starts and clears lastError', async () => {
  const manager = world.manager();
  const config = world.config('plugin', ['differs-by-start.py', world.path('starts'), 'refuse', 'refuse', 'good']);
  for (let round = 1; round <= 2; round++) {
    const error = await failure(manager.startProcess(config));
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3 });
    expect(error.message).toContain(`refused at start ${round}`);
    expect(manager.getProcessInfo('plugin').lastError).toContain(`refused at start ${round}`);
    // It has the lines of its own process only.
    if (round === 2) expect(error.message + error.stderr).not.toContain('refused at start 1');
  }
  await manager.startProcess(config);
  const info = manager.getProcessInfo('plugin');
  expect(info.state).toBe('running');
  expect(info.lastError).toBeUndefined();
  expect(info.lastExit).toMatchObject({ code: 3, reason: 'startup' });
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('getOutput: the output of a failed start stays readable', async () => {
  const manager = world.manager();
  await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1, '--out', 'first', 'second'])));
  expect(manager.getOutput('plugin').sort()).toEqual(['first', 'second']);
});

test('startProcess: a failed start disturbs no other plugin', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('other'));
  const pid = manager.getPid('other');
  await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1])));
  expect(manager.getPid('other')).toBe(pid);
  expect(manager.isRunning('other')).toBe(true);
  expect(await connects(world.socket('other'))).toBe(true);
});
