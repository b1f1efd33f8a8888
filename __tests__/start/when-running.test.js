'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { EXACT, crash } = require('../restart/crash');

const world = useWorld();

test('whenRunning: resolves at readiness, after a restart, and at once in RUNNING', async () => {
  const manager = world.manager();
  const start = watch(manager.startProcess(world.config('plugin', ['serves.py'], { restart: { ...EXACT, delay: 300 } })));
  const wait = watch(manager.whenRunning('plugin'));
  await start.promise;
  await wait.promise;
  await manager.whenRunning('plugin');
  const daemon = await crash(manager);
  await manager.whenRunning('plugin');
  expect(manager.isRunning('plugin')).toBe(true);
  expect(manager.getPid('plugin')).not.toBe(daemon.pid);
});

test('whenRunning: STOPPED on the way of restartProcess is no rest', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const restart = manager.restartProcess('plugin');
  await manager.whenRunning('plugin');
  expect(manager.isRunning('plugin')).toBe(true);
  await restart;
});

test('whenRunning: rejects with ERR_NOT_FOUND, ERR_STOPPED or the last failure', async () => {
  const manager = world.manager();
  expect(await failure(manager.whenRunning('plugin'))).toMatchObject({ code: 'ERR_NOT_FOUND', pluginName: 'plugin' });

  const start = failure(manager.startProcess(world.config('plugin', ['never-binds.py'])));
  const wait = failure(manager.whenRunning('plugin'));
  await manager.stopProcess('plugin');
  expect(await wait).toMatchObject({ code: 'ERR_STOPPED', pluginName: 'plugin', message: "Process 'plugin' is stopped" });
  expect(await start).toMatchObject({ code: 'ERR_STOPPED' });
  expect(await failure(manager.whenRunning('plugin'))).toMatchObject({ code: 'ERR_STOPPED' });

  const failed = await failure(manager.startProcess(world.config('plugin', ['/no/such/script.py'])));
  const seen = await failure(manager.whenRunning('plugin'));
  expect(seen).toMatchObject({ code: 'ERR_STARTUP_EXIT', message: failed.message, exitCode: failed.exitCode });
  expect(manager.forgetProcess('plugin')).toBe(true);
  expect(await failure(manager.whenRunning('plugin'))).toMatchObject({ code: 'ERR_NOT_FOUND' });
});

test('ERR_UNHEALTHY: whenRunning, if failed health checks use up the restarts', async () => {
  const manager = world.manager();
  await manager.startProcess(
    world.config('plugin', ['serves.py'], {
      healthcheck: { interval: 100, timeout: 1_000, retries: 1 },
      restart: { maxAttempts: 0 },
      shutdownGracePeriod: 2_000,
    }),
  );
  fs.unlinkSync(world.socket('plugin'));
  await until(() => manager.getState('plugin') !== 'running');
  const error = await failure(manager.whenRunning('plugin'));
  expect(error).toMatchObject({ code: 'ERR_UNHEALTHY', pluginName: 'plugin' });
  expect(error.message).toContain(manager.getProcessInfo('plugin').lastError);
});

test('whenRunning: an abort rejects with the reason and stops nothing', async () => {
  const manager = world.manager();
  const start = watch(manager.startProcess(world.config('plugin', ['never-binds.py'])));
  const controller = new AbortController();
  const wait = failure(manager.whenRunning('plugin', { signal: controller.signal }));
  await until(() => manager.getPid('plugin'));
  const reason = new Error('changed my mind');
  controller.abort(reason);
  expect(await wait).toBe(reason);
  expect(await failure(manager.whenRunning('plugin', { signal: controller.signal }))).toBe(reason);
  expect(manager.getState('plugin')).toBe('starting');
  expect(start.settled).toBe(false);
  expect(await failure(manager.whenRunning('plugin', { signal: 7 }))).toMatchObject({ code: 'ERR_INVALID_CONFIG' });
  expect(await failure(manager.whenRunning(7))).toMatchObject({ code: 'ERR_INVALID_CONFIG' });
  await manager.stopProcess('plugin');
  await failure(start.promise);
});

test('whenRunning: keeps the event loop alive after unref', () => {
  const config = world.config('plugin', ['differs-by-start.py', world.path('starts'), 'good'], { restart: { ...EXACT, delay: 500 } });
  const script = `
    const { BackgroundProcessManager } = require(${JSON.stringify(path.join(__dirname, '..', '..'))});
    const manager = new BackgroundProcessManager({ envsDir: ${JSON.stringify(world.envsDir)} }).unref();
    manager.startProcess(${JSON.stringify(config)}).then(() => {
      manager.once('stateChange', () => manager.whenRunning('plugin').then(() => console.log(manager.getState('plugin'))));
      process.kill(manager.getPid('plugin'), 'SIGKILL');
      setTimeout(() => {}, 300);
    });`;
  expect(spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' }).stdout).toBe('running\n');
});
