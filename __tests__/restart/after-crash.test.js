'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { alive } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { EXACT, crash, runningAgain, starts } = require('./crash');

const world = useWorld();

test('restart.delay: state is starting after a crash and nextRestartAt is crash plus delay', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { ...EXACT, delay: 1_200 } }));
  const before = Date.now();
  const daemon = await crash(manager);
  const seen = Date.now();

  expect(manager.isRunning('plugin')).toBe(false);
  expect(manager.getState('plugin')).toBe('starting');
  expect(manager.getPid('plugin')).toBeUndefined();
  const info = manager.getProcessInfo('plugin');
  expect(info).toMatchObject({
    state: 'starting',
    restartAttempts: 1,
    lastExit: { pid: daemon.pid, signal: 'SIGKILL', reason: 'crashed' },
  });
  expect(info.pid).toBeUndefined();
  expect(info.uptime).toBeUndefined();
  expect(info.lastExit.at).toBeInstanceOf(Date);
  expect(info.nextRestartAt).toBeInstanceOf(Date);
  // Counted from the crash.
  expect(info.nextRestartAt.getTime()).toBeGreaterThanOrEqual(before + 1_195);
  expect(info.nextRestartAt.getTime()).toBeLessThanOrEqual(seen + 1_205);

  await runningAgain(manager, daemon);
  expect(Date.now()).toBeGreaterThanOrEqual(before + 1_195);
  const after = manager.getProcessInfo('plugin');
  expect(after).toMatchObject({ state: 'running', restartAttempts: 0, totalRestarts: 1, lastExit: { pid: daemon.pid } });
  expect(after.nextRestartAt).toBeUndefined();
  expect(await connects(world.socket('plugin'))).toBe(true);

  await until(() => events.states('plugin').length === 4);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'starting', 'running']);
  expect(events.of('exit')).toEqual([expect.objectContaining({ pid: daemon.pid, signal: 'SIGKILL', reason: 'crashed' })]);
  expect(events.of('restart')).toEqual([expect.objectContaining({ pluginName: 'plugin', attempt: 1, delay: 1_200, reason: 'crashed' })]);
});

test('exit: a crash is seen within 500 ms, whatever healthcheck.interval', async () => {
  const manager = world.manager();
  await manager.startProcess(
    world.config('plugin', ['serves.py'], {
      restart: { ...EXACT, delay: 5_000 },
      healthcheck: { interval: 30_000, timeout: 5_000, retries: 3 },
    }),
  );
  const exit = new Promise((resolve) => manager.once('exit', resolve));
  const began = performance.now();
  process.kill(manager.getPid('plugin'), 'SIGKILL');
  await exit;
  expect(performance.now() - began).toBeLessThan(500);
  expect(manager.isRunning('plugin')).toBe(false);
});

test('restart.delay: 0 restarts at once, after each of five crashes', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { delay: 0 } }));
  const began = performance.now();
  for (let round = 1; round <= 5; round++) {
    await runningAgain(manager, await crash(manager));
    // Five rounds are more than the three default attempts, which count failures only.
    expect(manager.getProcessInfo('plugin')).toMatchObject({ restartAttempts: 0, totalRestarts: round });
  }
  expect(performance.now() - began).toBeLessThan(10_000);
});

test('restart: an exit with a code other than 0 is a crash', async () => {
  const manager = world.manager();
  const events = record(manager);
  const counter = world.path('starts');
  await manager.startProcess(world.config('plugin', ['differs-by-start.py', counter, 'brief', 'good'], { restart: { delay: 0 } }));
  fs.writeFileSync(`${counter}.go`, '');
  await until(() => starts(counter) === 2 && manager.isRunning('plugin'));
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 4, reason: 'crashed' });
  expect(events.of('restart')[0]).toMatchObject({ attempt: 1, reason: 'crashed' });
});

test('restart: the rest of the old tree is gone before the new leader exists', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await manager.startProcess(
    world.config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'fled', 'willing'], {
      restart: { delay: 0 },
      shutdownGracePeriod: 400,
    }),
  );
  const family = await world.tree(marker);
  let overlap = false;
  const daemon = await crash(manager);
  await until(() => {
    if (manager.getPid('plugin') !== undefined) overlap ||= Object.values(family).some(alive);
    return manager.isRunning('plugin');
  });
  expect(overlap).toBe(false);
  expect(Object.values(family).filter(alive)).toEqual([]);
  expect(manager.getPid('plugin')).not.toBe(daemon.pid);
  expect(fs.existsSync(`${marker}.willing`)).toBe(true);
});

test('restart: uses the configuration as it was at the start', async () => {
  const manager = world.manager();
  const config = world.config('plugin', ['serves.py'], { restart: { delay: 0 }, envVars: { A: '1' } });
  await manager.startProcess(config);
  config.command = '/no/such';
  config.args.splice(0, 5, '/no/such');
  config.envVars.A = '2';
  config.restart.maxAttempts = 0;
  const daemon = await crash(manager);
  await runningAgain(manager, daemon);
  expect(manager.getProcessInfo('plugin').config.command).not.toBe('/no/such');
});

test('restart: a plugin folder that was replaced gets the records and the lock', async () => {
  const [manager, other] = [world.manager(), world.manager()];
  const config = world.config('plugin', ['serves.py'], { restart: { delay: 0 }, socketPath: world.path('s') });
  await manager.startProcess(config);
  // As an installation replaces it.
  fs.rmSync(world.folder('plugin'), { recursive: true });
  world.makeFolder('plugin');
  await runningAgain(manager, await crash(manager));

  const pid = manager.getPid('plugin');
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
  expect(fs.readFileSync(`${world.folder('plugin')}/daemon.id`, 'utf8')).toContain(`pid ${pid}\n`);
  expect(await failure(other.startProcess(config))).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: process.pid });
  expect(manager.getPid('plugin')).toBe(pid);
  await manager.stopProcess('plugin');
  await other.startProcess(config);
  expect(other.isRunning('plugin')).toBe(true);
});

test('restart.delay: the default is 5 s with 10 % jitter', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config());
  await crash(manager);
  await until(() => events.of('restart').length === 1);
  const [{ delay, attempt }] = events.of('restart');
  expect(attempt).toBe(1);
  expect(delay).toBeGreaterThanOrEqual(4_500);
  expect(delay).toBeLessThanOrEqual(5_500);
  // The test need not wait for the restart.
  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopped');
});

test('restart: the socket of the crashed daemon is removed before the next attempt', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['binds-without-unlinking.py'], { restart: { delay: 0 } }));
  const first = manager.getPid('plugin');
  process.kill(first, 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', first));
  expect(await connects(world.socket('plugin'))).toBe(true);
  await until(() => events.states('plugin').length === 4);
  expect(events.of('restart')).toHaveLength(1);
});
