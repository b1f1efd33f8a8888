'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { record } = require('../helpers/events');
const { descendants } = require('../helpers/proc');
const { testOnLinux } = require('../helpers/needs');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { EXACT } = require('../restart/crash');

const world = useWorld();
const MIB = 1024 * 1024;
const limits = (mib, sustain = 300) => ({ limits: { maxMemory: mib * MIB, sustain }, restart: { ...EXACT, delay: 10 } });

test('limits.maxMemory: a hog is stopped and restarted with reason memory, and the texts say how much of how much', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['uses-memory.py', 120], limits(60)));
  const hog = manager.getPid('plugin');
  const error = await until(() => manager.getProcessInfo('plugin').lastError);
  expect(error).toMatch(/^memory: \d+\.\d MiB of 60\.0 MiB \(\d{9} of 62914560 bytes\) for 300 ms$/);
  await until(() => runsAnew(manager, 'plugin', hog));
  await until(() => events.states('plugin').length >= 5);
  expect(events.states('plugin').slice(0, 5)).toEqual(['starting', 'running', 'stopping', 'starting', 'running']);
  expect(events.of('exit')[0]).toMatchObject({ pid: hog, code: 0, reason: 'memory' });
  expect(events.of('restart')[0]).toMatchObject({ attempt: 1, reason: 'memory' });
  expect(events.of('stateChange').find(({ to }) => to === 'stopping').reason).toBe(error);
  const { lastExit, totalRestarts } = manager.getProcessInfo('plugin');
  expect(lastExit).toMatchObject({ reason: 'memory' });
  expect(lastExit.memoryPeak).toBeGreaterThan(120 * MIB);
  expect(totalRestarts).toBeGreaterThanOrEqual(1);
});

testOnLinux('limits.maxMemory: the processes of a tree count together, also after a fork', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['uses-memory.py', 40, '--workers', 4], limits(100)));
  await until(() => events.of('exit').length > 0, 15_000);
  expect(events.of('exit')[0]).toMatchObject({ reason: 'memory' });
});

testOnLinux('limits.maxMemory: workers that share memory are not restarted for sharing', async () => {
  const manager = world.manager();
  const events = record(manager);
  // Nine processes with 60 MiB each are 540 MiB of resident memory.
  await manager.startProcess(world.config('plugin', ['shares-memory.py', 8, 60], limits(200)));
  expect(descendants(manager.getPid('plugin'))).toHaveLength(8);
  // The watch has read the tree after this time: a tree of its own size without sharing is restarted meanwhile.
  await manager.startProcess(world.config('hog', ['uses-memory.py', 240], limits(200)));
  await until(() => events.of('exit').length > 0, 15_000);
  expect(events.of('exit').map(({ pluginName }) => pluginName)).toEqual(['hog']);
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running', totalRestarts: 0 });
});

test('limits.sustain: a spike that is shorter changes nothing', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['uses-memory.py', 120, '--spikes', 700], limits(60, 6_000)));
  await until(() => fs.existsSync(path.join(world.pluginPath, 'spike-is-over')));
  await until(() => manager.getMetrics('plugin').resources.memory < 60 * MIB);
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running', totalRestarts: 0, restartAttempts: 0 });
});

test('limits.maxMemory with restart.maxAttempts 0: ERROR, and whenRunning rejects with ERR_UNHEALTHY', async () => {
  const manager = world.manager();
  const config = world.config('plugin', ['uses-memory.py', 120], { ...limits(60, 100), restart: { maxAttempts: 0 } });
  await manager.startProcess(config);
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastError).toMatch(/^memory: /);
  await expect(manager.whenRunning('plugin')).rejects.toMatchObject({ code: 'ERR_UNHEALTHY' });
});

test('limits.maxMemory: a stop ends the watch', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['uses-memory.py', 120], limits(60, 3_000)));
  await manager.stopProcess('plugin');
  expect(events.of('exit')).toEqual([expect.objectContaining({ reason: 'stopped' })]);
  expect(manager.getState('plugin')).toBe('stopped');
});
