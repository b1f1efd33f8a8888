'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const product = require('..');
const { connects, expectNothingLeft, useWorld } = require('./helpers/world');
const { alive, identify } = require('./helpers/processes');
const { failure, until, watch } = require('./helpers/until');

const { BackgroundProcessManager, PLUGIN_TIMEOUTS, ProcessState, configFromManifest } = product;
const world = useWorld();

describe('the package', () => {
  test('exports what it declares', () => {
    expect(typeof BackgroundProcessManager).toBe('function');
    expect(typeof configFromManifest).toBe('function');
    expect({ ...ProcessState }).toEqual({
      STARTING: 'starting',
      RUNNING: 'running',
      STOPPING: 'stopping',
      STOPPED: 'stopped',
      ERROR: 'error',
    });
    expect({ ...PLUGIN_TIMEOUTS }).toEqual({
      BACKGROUND_PROCESS_STARTUP: 30_000,
      BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD: 5_000,
      BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL: 30_000,
      BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT: 5_000,
      BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES: 3,
      BACKGROUND_PROCESS_MAX_RESTART_ATTEMPTS: 3,
      BACKGROUND_PROCESS_RESTART_DELAY: 5_000,
    });
    expect(Object.isFrozen(PLUGIN_TIMEOUTS)).toBe(true);
  });

  test('has named exports for import as well', () => {
    const source = `
      import all, { BackgroundProcessManager, ProcessState, PLUGIN_TIMEOUTS, configFromManifest } from ${JSON.stringify(require.resolve('..'))};
      const manager = new BackgroundProcessManager({ envsDir: '/nonexistent' });
      console.log(JSON.stringify([
        manager instanceof all.BackgroundProcessManager, ProcessState.RUNNING, PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
        typeof configFromManifest, manager.isRunning('x'),
      ]));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
    expect(JSON.parse(output)).toEqual([true, 'running', 30_000, 'function', false]);
  });
});

describe('the constructor', () => {
  test.each([
    [{ envsDir: 7 }, /envsDir/],
    [{ envsDir: null }, /envsDir/],
    [{ envsDir: 'a\0b' }, /envsDir/],
    [{ logger: 'console' }, /logger/],
    [{ logger: {} }, /logger/],
    [{ logger: { debug() {}, info() {}, warn: 'loud', error() {} } }, /logger/],
    [{ onOwnerDeath: 'die' }, /onOwnerDeath/],
    [{ onOwnerDeath: true }, /onOwnerDeath/],
    ['options', /options/],
    [7, /options/],
  ])('refuses %p', (options, field) => {
    let error;
    try {
      new BackgroundProcessManager(options);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(Error);
    expect(error.code).toBe('ERR_INVALID_CONFIG');
    expect(error.message).toMatch(field);
  });

  test.each([
    [undefined],
    [{}],
    [{ envsDir: undefined, logger: undefined, onOwnerDeath: undefined }],
    [{ onOwnerDeath: 'keep' }],
    [{ logger: { debug() {}, info() {}, warn() {}, error() {} } }],
  ])('takes %p, and does nothing yet', (options) => {
    expect(new BackgroundProcessManager(options).listProcesses()).toEqual([]);
  });

  test('takes console for a logger', () => {
    expect(new BackgroundProcessManager({ logger: console }).listProcesses()).toEqual([]);
  });

  test('finds the home of the plugins in HOME, as it is then', async () => {
    const home = process.env.HOME;
    world.finally(() => (home === undefined ? delete process.env.HOME : (process.env.HOME = home)));
    process.env.HOME = world.path('home');
    fs.mkdirSync(world.path('home'));
    const manager = world.manager({ envsDir: undefined });
    process.env.HOME = world.path('another');
    await manager.startProcess(world.config('plugin', ['willing.py'], { socketPath: world.path('s') }));
    const file = world.path('home', '.ally', 'plugin-envs', 'plugin', 'daemon.pid');
    expect(fs.readFileSync(file, 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
    expect(fs.existsSync(world.path('another'))).toBe(false);
  });
});

describe('getProcessInfo', () => {
  test('has every field, and the configuration as it was given', async () => {
    const manager = world.manager();
    const config = world.config('plugin', ['willing.py'], {
      envVars: { A: '1', B: undefined },
      healthcheck: { interval: 60_000, timeout: 1_000, retries: 3, probe: { type: 'socket' } },
      restart: { maxAttempts: 5, window: { limit: 10, period: 1_000 } },
      readiness: { type: 'socket' },
      killMode: 'tree',
      stopSignal: 'SIGTERM',
      socket: 'daemon',
    });
    const given = structuredClone(config);
    await manager.startProcess(config);
    const info = manager.getProcessInfo('plugin');
    expect(config).toEqual(given);
    expect(info.config).toEqual(given);
    expect(info).toMatchObject({
      state: ProcessState.RUNNING,
      pid: manager.getPid('plugin'),
      failedHealthChecks: 0,
      restartAttempts: 0,
      totalRestarts: 0,
    });
    expect(info.lastStateChange).toBeInstanceOf(Date);
    expect(Math.abs(Date.now() - info.lastStateChange.getTime())).toBeLessThan(10_000);
    expect(info.uptime).toBeGreaterThanOrEqual(0);
    for (const key of ['lastError', 'lastExit', 'nextRestartAt']) expect(info[key]).toBeUndefined();
    await until(() => manager.getProcessInfo('plugin').uptime > info.uptime);
  });

  test('is a picture of a moment', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config());
    const info = manager.getProcessInfo('plugin');
    try {
      info.state = 'error';
      info.config.command = '/no/such';
    } catch {
      // frozen is as good
    }
    expect(manager.getState('plugin')).toBe('running');
    await manager.stopProcess('plugin');
    expect(manager.getProcessInfo('plugin').state).toBe('stopped');
    await manager.restartProcess('plugin');
    expect(manager.isRunning('plugin')).toBe(true);
  });

  test('and listProcesses tell the same', async () => {
    const manager = world.manager();
    await Promise.all(['a', 'b'].map((name) => manager.startProcess(world.config(name))));
    await failure(manager.startProcess(world.config('c', ['exits.py', '--code', 1])));
    await manager.stopProcess('b');
    const list = manager.listProcesses();
    expect(Array.isArray(list)).toBe(true);
    expect(Object.fromEntries(list.map(({ config, state }) => [config.pluginName, state]))).toEqual({
      a: 'running',
      b: 'stopped',
      c: 'error',
    });
    for (const info of list) {
      const { uptime, ...rest } = info;
      const { uptime: _, ...expected } = manager.getProcessInfo(info.config.pluginName);
      expect(rest).toEqual(expected);
      expect(uptime === undefined).toBe(info.state !== 'running');
    }
  });
});

describe('stopAllProcesses', () => {
  test('stops all at once, and nothing starts after it', async () => {
    const manager = world.manager();
    const names = ['a', 'b', 'c', 'd'];
    await Promise.all(names.map((name) => manager.startProcess(world.config(name, ['stubborn.py'], { shutdownGracePeriod: 700 }))));
    const daemons = names.map((name) => identify(manager.getPid(name)));
    const began = performance.now();
    const all = manager.stopAllProcesses();
    const early = failure(manager.startProcess(world.config('e')));
    await expect(all).resolves.toBeUndefined();
    const took = performance.now() - began;
    expect(took).toBeGreaterThanOrEqual(695);
    // In parallel: four graces in a row would take longer.
    expect(took).toBeLessThan(2_700);
    names.forEach((name, index) => expectNothingLeft(world, name, [daemons[index]]));
    expect(names.map((name) => manager.getState(name))).toEqual(names.map(() => 'stopped'));

    const late = failure(manager.startProcess(world.config('a')));
    for (const error of [await early, await late]) {
      expect(error).toBeInstanceOf(Error);
      expect(error.code).toBe('ERR_SHUTTING_DOWN');
      expect(error.message).toContain('Cannot start process during shutdown');
    }
    expect((await late).pluginName).toBe('a');
    expect((await failure(manager.restartProcess('a'))).code).toBe('ERR_SHUTTING_DOWN');
    expect(manager.getState('a')).toBe('stopped');
    expect(manager.getState('e')).toBeUndefined();
  });

  test('stops what is starting, and what waits for a restart', async () => {
    const manager = world.manager();
    const counter = world.path('starts');
    await manager.startProcess(world.config('crashed', ['by-turns.py', counter, 'good'], { restart: { delay: 20_000 } }));
    process.kill(manager.getPid('crashed'), 'SIGKILL');
    await until(() => manager.getProcessInfo('crashed').nextRestartAt);
    const start = watch(manager.startProcess(world.config('starting', ['never-binds.py'])));
    await until(() => manager.getPid('starting'));
    await manager.stopAllProcesses();
    expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
    expect(manager.listProcesses().map(({ state }) => state)).toEqual(['stopped', 'stopped']);
    expect(fs.readFileSync(counter, 'utf8')).toBe('1');
  });

  test('resolves with nothing to do, and as often as it is called', async () => {
    const manager = world.manager();
    await expect(Promise.all([manager.stopAllProcesses(), manager.stopAllProcesses()])).resolves.toEqual([undefined, undefined]);
    await expect(manager.stopAllProcesses()).resolves.toBeUndefined();
    expect((await failure(manager.startProcess(world.config()))).code).toBe('ERR_SHUTTING_DOWN');
    expect(fs.existsSync(world.envsDir)).toBe(false);
  });

  test('is for one manager', async () => {
    const [one, two] = [world.manager(), world.manager()];
    await two.startProcess(world.config('two'));
    await one.stopAllProcesses();
    expect(two.isRunning('two')).toBe(true);
    await two.startProcess(world.config('three'));
    expect(two.isRunning('three')).toBe(true);
  });

  (Symbol.asyncDispose ? test : test.skip)('is what disposing does', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config());
    const daemon = identify(manager.getPid('plugin'));
    await expect(manager[Symbol.asyncDispose]()).resolves.toBeUndefined();
    expectNothingLeft(world, 'plugin', [daemon]);
    expect((await failure(manager.startProcess(world.config()))).code).toBe('ERR_SHUTTING_DOWN');
  });
});

describe('an AbortSignal', () => {
  test('that fires is a stop: the start rejects with its reason', async () => {
    const manager = world.manager();
    const controller = new AbortController();
    const marker = world.path('family');
    const start = watch(
      manager.startProcess(
        world.config('plugin', ['family.py', marker, '--never-bind', 'stubborn', 'fled'], { shutdownGracePeriod: 300 }),
        { signal: controller.signal },
      ),
    );
    const family = Object.values(await world.family(marker));
    const daemon = identify(manager.getPid('plugin'));
    const reason = new Error('changed my mind');
    controller.abort(reason);
    expect(await failure(start.promise)).toBe(reason);
    await until(() => manager.getState('plugin') === 'stopped');
    expectNothingLeft(world, 'plugin', [daemon, ...family]);
  });

  test('without a reason of its own rejects with an AbortError', async () => {
    const manager = world.manager();
    const controller = new AbortController();
    const start = watch(manager.startProcess(world.config('plugin', ['never-binds.py']), { signal: controller.signal }));
    await until(() => manager.getPid('plugin'));
    controller.abort();
    const error = await failure(start.promise);
    expect(error).toBe(controller.signal.reason);
    expect(error.name).toBe('AbortError');
  });

  test('that has fired already lets nothing begin', async () => {
    const manager = world.manager();
    const reason = { any: 'thing' };
    const start = manager.startProcess(world.config(), { signal: AbortSignal.abort(reason) });
    expect(await failure(start)).toBe(reason);
    expect(manager.getPid('plugin')).toBeUndefined();
    expect(manager.isRunning('plugin')).toBe(false);
    expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
    expect(fs.existsSync(world.socket('plugin'))).toBe(false);
    await manager.startProcess(world.config());
    expect(manager.isRunning('plugin')).toBe(true);
  });

  test('that fires in the same turn lets nothing stay', async () => {
    const manager = world.manager();
    const controller = new AbortController();
    const start = watch(manager.startProcess(world.config(), { signal: controller.signal }));
    controller.abort('now');
    expect(await failure(start.promise)).toBe('now');
    await until(() => manager.getState('plugin') !== 'stopping');
    expect(manager.getPid('plugin')).toBeUndefined();
    expectNothingLeft(world, 'plugin');
  });

  test('that never fires keeps nothing, and an invalid configuration comes first', async () => {
    const manager = world.manager();
    const controller = new AbortController();
    await manager.startProcess(world.config(), { signal: controller.signal });
    expect(manager.isRunning('plugin')).toBe(true);
    await manager.stopProcess('plugin');
    controller.abort();
    expect(manager.getState('plugin')).toBe('stopped');
    const error = await failure(manager.startProcess({ ...world.config(), args: 7 }, { signal: AbortSignal.abort() }));
    expect(error.code).toBe('ERR_INVALID_CONFIG');
  });
});

describe('in a worker', () => {
  test("it works, with the worker's own environment and errors of its realm", async () => {
    const file = world.path('report');
    const owner = world.owner('in-worker.js', {
      configs: [world.config('plugin', ['reports.py', file])],
      workerEnv: { OF_THE_WORKER: 'yes' },
      end: 'stop',
    });
    expect(await owner.says('invalid')).toMatchObject({ isError: true, code: 'ERR_INVALID_CONFIG' });
    const { plugin } = await owner.says('ready');
    expect(await owner.says('stopped')).toBe(true);
    const report = JSON.parse(fs.readFileSync(file, 'utf8'));
    expect(report.pid).toBe(plugin);
    expect(report.environment).toMatchObject({ OF_THE_WORKER: 'yes', ALLY_PLUGIN_NAME: 'plugin' });
    expect(await owner.says('workerExit')).toBe(0);
    expect(await owner.exited).toEqual({ code: 0, signal: null });
    expect(alive(plugin)).toBe(false);
  });
});

describe('not supported yet', () => {
  const health = { interval: 1_000, timeout: 1_000, retries: 3 };

  const refused = (error) => {
    expect(error).toBeInstanceOf(Error);
    expect(error.code).toBe('ERR_INVALID_CONFIG');
    expect(error.message).toContain('not supported yet');
  };

  test.each([
    ['logs', (dir) => ({ logs: { file: path.join(dir, 'log') } }), /logs/],
    ['limits', () => ({ limits: { maxMemory: 1 << 30 } }), /limits/],
    ['group', () => ({ group: 'search' }), /group/],
    ['dependsOn', () => ({ dependsOn: ['other'] }), /dependsOn/],
    ["socket: 'manager'", () => ({ socket: 'manager' }), /socket/],
    ['readiness by http', () => ({ readiness: { type: 'http' } }), /readiness/],
    ['readiness by exec', () => ({ readiness: { type: 'exec', command: 'true' } }), /readiness/],
    ['readiness by notify', () => ({ readiness: { type: 'notify' } }), /readiness/],
    ['probe http', () => ({ healthcheck: { ...health, probe: { type: 'http' } } }), /healthcheck.*probe/],
    ['probe exec', () => ({ healthcheck: { ...health, probe: { type: 'exec', command: 'true' } } }), /healthcheck.*probe/],
    ['probe notify', () => ({ healthcheck: { ...health, probe: { type: 'notify' } } }), /healthcheck.*probe/],
  ])('%s', async (_, option, field) => {
    const manager = world.manager();
    const error = await failure(manager.startProcess({ ...world.config(), ...option(world.dir) }));
    refused(error);
    expect(error.message).toMatch(field);
    expect(error.pluginName).toBe('plugin');
    expect(manager.listProcesses()).toEqual([]);
    expect(fs.existsSync(world.envsDir)).toBe(false);
  });

  test.each([
    ['upgradeProcess', ['plugin']],
    ['startGroup', [[]]],
    ['stopGroup', ['search']],
  ])('%s', async (method, args) => {
    const manager = world.manager();
    await manager.startProcess(world.config());
    let promise;
    expect(() => (promise = manager[method](...args))).not.toThrow();
    refused(await failure(promise));
    expect(manager.isRunning('plugin')).toBe(true);
  });

  test.each(['getMetrics', 'metricsText'])('%s', (method) => {
    const manager = world.manager();
    let error;
    try {
      manager[method]();
    } catch (caught) {
      error = caught;
    }
    refused(error);
  });
});

test('getters cost little, and never wait', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const began = performance.now();
  for (let count = 0; count < 10_000; count++) {
    manager.isRunning('plugin');
    manager.getPid('plugin');
    manager.getState('nobody');
  }
  // Microseconds each; a file or a lock would take many times that.
  expect(performance.now() - began).toBeLessThan(1_500);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('starting many does not hold up the loop', async () => {
  const manager = world.manager();
  let worst = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    worst = Math.max(worst, performance.now() - last);
    last = performance.now();
  }, 1);
  world.finally(() => clearInterval(timer));
  await Promise.all(Array.from({ length: 15 }, (_, index) => manager.startProcess(world.config(`plugin-${index}`))));
  clearInterval(timer);
  // Busy cores hold it up as well; a start that waits in the loop would take the sum of all starts.
  expect(worst).toBeLessThan(250);
});
