'use strict';

const fs = require('node:fs');
const { EXACT, crash, runningAgain } = require('../restart/crash');
const { testOnLinux } = require('../helpers/needs');
const { descendants, descriptors, identify, resident, signal, stat } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');

const world = useWorld();
const MIB = 1024 * 1024;

test('getMetrics: undefined for an unknown plugin, and no entry in the list', () => {
  const manager = world.manager();
  expect(manager.getMetrics('plugin')).toBeUndefined();
  expect(manager.getMetrics(undefined)).toBeUndefined();
  expect(manager.getMetrics()).toEqual([]);
});

test('getMetrics: the sample of the start is there when startProcess resolves', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const metrics = manager.getMetrics('plugin');
  expect(metrics).toEqual({
    pluginName: 'plugin',
    state: 'running',
    uptime: expect.any(Number),
    starts: 1,
    restarts: 0,
    crashes: 0,
    healthChecks: { passed: 0, failed: 0 },
    outputBytes: 0,
    resources: {
      cpuPercent: expect.any(Number),
      cpuTime: expect.any(Number),
      memory: expect.any(Number),
      processes: 1,
      threads: 1,
      openFiles: descriptors(manager.getPid('plugin')).length,
    },
  });
  expect(metrics.resources.memory).toBeGreaterThan(2 * MIB);
  expect(metrics.resources.memory).toBeLessThan(100 * MIB);
  expect(metrics).toBeInstanceOf(Object);
  expect(manager.getMetrics()).toEqual([{ ...metrics, uptime: expect.any(Number), resources: expect.any(Object) }]);
});

test('getMetrics: counters stay over crashes and stops, and are forgotten with the plugin', async () => {
  const manager = world.manager();
  const printing = ['exits.py', '--listen', '--out', 'hello', 'world', '--after', 60_000];
  const config = world.config('plugin', printing, { restart: { ...EXACT, delay: 1 } });
  await manager.startProcess(config);
  await until(() => manager.getMetrics('plugin').outputBytes === 12);
  const daemon = await crash(manager);
  await runningAgain(manager, daemon);
  expect(manager.getMetrics('plugin')).toMatchObject({ starts: 2, restarts: 1, crashes: 1, resources: { processes: 1 } });
  await until(() => manager.getMetrics('plugin').outputBytes === 24);
  await manager.stopProcess('plugin');
  const stopped = manager.getMetrics('plugin');
  expect(stopped).toMatchObject({ state: 'stopped', uptime: 0, starts: 2, restarts: 1, crashes: 1, outputBytes: 24 });
  expect(stopped.resources).toBeUndefined();
  await manager.startProcess(config);
  expect(manager.getMetrics('plugin')).toMatchObject({ starts: 3, restarts: 1, crashes: 1 });
  await manager.stopProcess('plugin');
  manager.forgetProcess('plugin');
  expect(manager.getMetrics('plugin')).toBeUndefined();
});

test('getMetrics: no resources between a crash and the restart', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { ...EXACT, delay: 60_000 } }));
  await crash(manager);
  expect(manager.getMetrics('plugin')).toMatchObject({ starts: 1, restarts: 0, crashes: 1 });
  expect(manager.getMetrics('plugin').resources).toBeUndefined();
});

test('getMetrics, metricsText: an upgrade counts as a start, its readiness and an exit; a failed one as a start and an exit', async () => {
  const manager = world.manager();
  const has = (line) => expect(manager.metricsText()).toContain(`${line}\n`);
  await manager.startProcess(world.config());
  await manager.upgradeProcess('plugin', { args: script('serves.py') });
  has('ally_daemon_starts_total{plugin="plugin"} 2');
  has('ally_daemon_ready_duration_seconds_count{plugin="plugin"} 2');
  has('ally_daemon_exits_total{plugin="plugin",reason="upgraded"} 1');
  const since = () => Number(/^ally_daemon_start_time_seconds\{plugin="plugin"\} (\S+)$/m.exec(manager.metricsText())[1]);
  const serving = since();
  await until(() => manager.getMetrics('plugin').resources);
  // Python needs tens of milliseconds of CPU time to start, and the change-over comes milliseconds before the sample.
  expect(manager.getMetrics('plugin').resources.cpuPercent).toBeLessThan(300);
  await failure(manager.upgradeProcess('plugin', { args: script('exits.py', '--code', '3') }));
  has('ally_daemon_starts_total{plugin="plugin"} 3');
  has('ally_daemon_exits_total{plugin="plugin",reason="startup"} 1');
  expect(since()).toBe(serving);
});

test('getMetrics: health checks with their latencies', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { healthcheck: { interval: 20, timeout: 2_000, retries: 3 } }));
  const { healthChecks } = await until(() => {
    const metrics = manager.getMetrics('plugin');
    return metrics.healthChecks.passed >= 3 && metrics;
  });
  expect(healthChecks.failed).toBe(0);
  expect(healthChecks.lastLatency).toBeGreaterThan(0);
  expect(healthChecks.p50).toBeGreaterThan(0);
  expect(healthChecks.p99).toBeGreaterThanOrEqual(healthChecks.p50);
});

testOnLinux('getMetrics: memory counts what workers share once', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['shares-memory.py', 8, 60]));
  const { resources } = manager.getMetrics('plugin');
  const leader = manager.getPid('plugin');
  const sum = [{ pid: leader }, ...descendants(leader)].reduce((total, { pid }) => total + resident(pid) * 1024, 0);
  expect(sum).toBeGreaterThan(9 * 60 * MIB);
  expect(resources).toMatchObject({ processes: 9, threads: 9 });
  expect(resources.memory).toBeGreaterThan(60 * MIB);
  expect(resources.memory).toBeLessThan(150 * MIB);
});

testOnLinux('getMetrics: cpuTime counts a process that its keeper has reaped', async () => {
  const manager = world.manager();
  const marker = world.path('busy');
  // The kernel rounds user and system time of each process down to 10 ms, so up to 20 ms of each are missing.
  await manager.startProcess(world.config('plugin', ['leaves-a-busy-child.py', 500, marker]));
  await until(() => fs.existsSync(marker) && descendants(manager.getPid('plugin')).length === 0);
  const { resources } = await until(() => {
    const metrics = manager.getMetrics('plugin');
    return metrics.resources.processes === 1 && metrics.resources.cpuTime >= 400 && metrics;
  });
  expect(resources.cpuTime).toBeLessThan(5_000);
});

testOnLinux('getMetrics: cpuPercent is over the time since the sample before', async () => {
  const manager = world.manager();
  const busy = ['leaves-a-busy-child.py', 20_000, world.path('busy')];
  await manager.startProcess(world.config('plugin', busy, { shutdownGracePeriod: 0 }));
  const first = manager.getMetrics('plugin').resources;
  const next = await until(() => {
    const { resources } = manager.getMetrics('plugin');
    return resources.cpuTime > first.cpuTime + 300 && resources;
  });
  // One thread is busy. On a loaded machine it gets less than a whole CPU.
  expect(next.cpuPercent).toBeGreaterThan(10);
  expect(next.cpuPercent).toBeLessThan(120);
});

test('lastExit: memoryPeak and cpuTime of the leader and the children that it waited for', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['shares-memory.py', 0, 64]));
  await manager.stopProcess('plugin');
  const { lastExit } = manager.getProcessInfo('plugin');
  expect(lastExit.memoryPeak).toBeGreaterThan(64 * MIB);
  expect(lastExit.memoryPeak).toBeLessThan(200 * MIB);
  expect(lastExit.cpuTime).toBeGreaterThan(1);
  expect(lastExit.cpuTime).toBeLessThan(10_000);
});

testOnLinux('lastExit: without memoryPeak and cpuTime after a killed keeper', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { maxAttempts: 0 } }));
  signal(identify(stat(manager.getPid('plugin')).ppid), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'error');
  expect(Object.keys(manager.getProcessInfo('plugin').lastExit).sort()).toEqual(['at', 'pid', 'reason']);
});
