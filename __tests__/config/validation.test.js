'use strict';

const fs = require('node:fs');
const { descendants } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { SECRET_VALUE, healthcheck, problemOf, without } = require('./samples');

const world = useWorld();

const REQUIRED = ['pluginName', 'pluginPath', 'command', 'args', 'socketPath', 'startupTimeout', 'shutdownGracePeriod'];

test.each([
  ...REQUIRED.map((field) => [field, without(field)]),
  ['restart.window.limit', (config) => ({ ...config, restart: { window: { period: 1_000 } } })],
  ['restart.window.period', (config) => ({ ...config, restart: { window: { limit: 3 } } })],
])('ERR_INVALID_CONFIG: a missing %s is named as required, with the type that it must have', async (field, change) => {
  const error = await failure(world.manager().startProcess(change(world.config())));
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toContain(`${field} is required and must be `);
});

test.each([
  ['command', (get) => Object.defineProperty(world.config(), 'command', { enumerable: true, get })],
  ['healthcheck', (get) => Object.defineProperty(world.config(), 'healthcheck', { enumerable: true, get })],
  [
    'healthcheck.interval',
    (get) => ({ ...world.config(), healthcheck: Object.defineProperty({ ...healthcheck }, 'interval', { enumerable: true, get }) }),
  ],
  ['envVars.TOKEN', (get) => ({ ...world.config(), envVars: Object.defineProperty({}, 'TOKEN', { enumerable: true, get }) })],
])('ERR_INVALID_CONFIG: a getter of %s that throws rejects the start without quoting the error', async (field, make) => {
  const manager = world.manager();
  const bad = make(() => {
    throw new Error(SECRET_VALUE);
  });
  const promise = manager.startProcess(bad);
  expect(promise).toBeInstanceOf(Promise);
  const error = await failure(promise);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(error.message).toContain(`${field} can't be read`);
  expect(error.message + error.stack).not.toContain('hunter2');
  expect(error.cause).toBeUndefined();
  expect(manager.listProcesses()).toEqual([]);
});

test('ERR_INVALID_CONFIG: a NUL in the process.env of a worker names the variable and not its value', async () => {
  const owner = world.owner('starts-in-a-worker.js', { configs: [world.config()], workerEnv: { TEST_ODD: `${SECRET_VALUE}\0` } });
  const error = await owner.says('failed');
  expect(error).toMatchObject({ isError: true, code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(error.message).toContain('process.env.TEST_ODD must not contain NUL');
  expect(error.message).not.toContain('hunter2');
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test('methods: reject instead of throwing, whatever the argument', async () => {
  const manager = world.manager();
  for (const method of ['startProcess', 'stopProcess', 'restartProcess', 'upgradeProcess', 'startGroup', 'stopGroup']) {
    for (const argument of [undefined, null, 7, {}, [], Symbol('s'), () => {}]) {
      // An empty group is started at once.
      if (method === 'startGroup' && Array.isArray(argument)) continue;
      const promise = manager[method](argument);
      expect(promise).toBeInstanceOf(Promise);
      const error = await failure(promise);
      expect(error).toBeInstanceOf(Error);
      expect(error.code).toBe('ERR_INVALID_CONFIG');
    }
  }
  expect(manager.listProcesses()).toEqual([]);
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test.each([[{ signal: 'stop' }], [{ signal: {} }]])('ERR_INVALID_CONFIG: startProcess refuses %p as its options', async (options) => {
  const manager = world.manager();
  const error = await failure(manager.startProcess(world.config(), options));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(problemOf(error)).toBe('options.signal must be an AbortSignal');
  expect(manager.listProcesses()).toEqual([]);
});

test('ERR_INVALID_CONFIG: an invalid start leaves a running plugin unchanged', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const before = manager.getProcessInfo('plugin');

  const error = await failure(manager.startProcess({ ...world.config(), startupTimeout: 0 }));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  const { uptime: _, ...after } = manager.getProcessInfo('plugin');
  const { uptime: __, ...unchanged } = before;
  expect(after).toEqual(unchanged);
  expect(manager.isRunning('plugin')).toBe(true);
});

test('ERR_INVALID_CONFIG: an invalid start leaves lastError of a failed plugin unchanged', async () => {
  const manager = world.manager();
  const real = await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 3])));
  expect(real.code).toBe('ERR_STARTUP_EXIT');
  const before = manager.getProcessInfo('plugin');
  expect((await failure(manager.startProcess({ ...world.config(), command: '' }))).code).toBe('ERR_INVALID_CONFIG');
  expect(manager.getProcessInfo('plugin')).toEqual(before);
});

test("ERR_INVALID_CONFIG: an invalid start leaves the plugin's files alone", async () => {
  const manager = world.manager();
  const folder = world.makeFolder('plugin');
  fs.writeFileSync(`${folder}/daemon.pid`, 'kept');
  fs.writeFileSync(`${folder}/daemon.sock`, 'kept');
  expect((await failure(manager.startProcess({ ...world.config(), args: 'daemon.py' }))).code).toBe('ERR_INVALID_CONFIG');
  expect(fs.readFileSync(`${folder}/daemon.pid`, 'utf8')).toBe('kept');
  expect(fs.readFileSync(`${folder}/daemon.sock`, 'utf8')).toBe('kept');
  expect(fs.readdirSync(folder).sort()).toEqual(['daemon.pid', 'daemon.sock']);
});

test('unknown keys: are accepted with a warning', async () => {
  const warnings = [];
  const nothing = () => {};
  const manager = world.manager({ logger: { debug: nothing, info: nothing, warn: (message) => warnings.push(message), error: nothing } });
  await manager.startProcess({ ...world.config(), colour: 'red', healthcheck: { ...healthcheck, retires: 3 } });
  expect(manager.isRunning('plugin')).toBe(true);
  await until(() => warnings.some((message) => message.includes('colour')));
  expect(descendants(process.pid).length).toBeGreaterThan(0);
});

test.each([
  ['a Map', () => new Map([['key', SECRET_VALUE]])],
  ['a Date', () => new Date()],
  ['a Buffer', () => Buffer.from(SECRET_VALUE)],
  ['a RegExp', () => /hunter2/],
  ['a function', () => () => SECRET_VALUE],
  ['a symbol', () => Symbol(SECRET_VALUE)],
])('unknown keys: with %s as value are accepted, with one warning for each key', async (_, make) => {
  const warnings = [];
  const nothing = () => {};
  const manager = world.manager({ logger: { debug: nothing, info: nothing, warn: (message) => warnings.push(message), error: nothing } });
  await manager.startProcess({
    ...world.config(),
    colour: make(),
    shapes: [make(), { round: make() }],
    healthcheck: { ...healthcheck, retires: make(), more: { of: { it: make() } } },
    restart: { delai: make() },
  });
  expect(manager.isRunning('plugin')).toBe(true);
  await until(() => warnings.length >= 5);
  for (const key of ['colour', 'shapes', 'healthcheck.retires', 'healthcheck.more', 'restart.delai']) {
    expect([key, warnings.filter((message) => message.endsWith(`unknown configuration key ${key}`)).length]).toEqual([key, 1]);
  }
  expect(warnings).toHaveLength(5);
  expect(warnings.join()).not.toContain('hunter2');
});

test.each([
  ['fractions of a millisecond', { startupTimeout: 10_000.5, shutdownGracePeriod: 1_000.25 }],
  ['a grace period of 0', { shutdownGracePeriod: 0 }],
  [
    'optional fields that are undefined',
    { envVars: undefined, healthcheck: undefined, restart: undefined, readiness: undefined, killMode: undefined, stopSignal: undefined },
  ],
  ['an empty restart policy', { restart: {} }],
  [
    'a whole restart policy',
    {
      restart: {
        maxAttempts: 0,
        delay: 0,
        backoff: 'linear',
        factor: 1,
        maxDelay: 0,
        jitter: 1,
        window: { limit: 1, period: 1 },
        on: 'failure',
      },
    },
  ],
  [
    'a day',
    { startupTimeout: 86_400_000, shutdownGracePeriod: 86_400_000, healthcheck: { interval: 86_400_000, timeout: 86_400_000, retries: 1 } },
  ],
])('startProcess: accepts %s', async (_, change) => {
  const manager = world.manager();
  await expect(manager.startProcess({ ...world.config(), ...change })).resolves.toBeUndefined();
});
