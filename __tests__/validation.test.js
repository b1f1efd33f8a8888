'use strict';

const fs = require('node:fs');
const { record, useWorld } = require('./helpers/world');
const { children, descendants } = require('./helpers/processes');
const { failure, until } = require('./helpers/until');

const world = useWorld();

const SECRET_ARGUMENT = 'hunter2-argument';
const SECRET_VALUE = 'hunter2-value';
const without =
  (...keys) =>
  (config) => {
    const copy = { ...config };
    for (const key of keys) delete copy[key];
    return copy;
  };
const healthcheck = { interval: 1_000, timeout: 1_000, retries: 3 };

/** What is wrong, what makes it so, and the field that the message must name. */
const cases = [
  ['no configuration', () => undefined, /config/i],
  ['null', () => null, /config/i],
  ['a text for a configuration', () => 'plugin', /config/i],
  ['a number for a configuration', () => 7, /config/i],
  ['an empty object', () => ({}), /pluginName/],

  ['no pluginName', without('pluginName'), /pluginName/],
  ['a pluginName that is a number', { pluginName: 7 }, /pluginName/],
  ['a pluginName that is null', { pluginName: null }, /pluginName/],
  ['an empty pluginName', { pluginName: '' }, /pluginName/],
  ['a pluginName of 256 bytes', { pluginName: 'n'.repeat(256) }, /pluginName/],
  ['a pluginName of 128 letters in 256 bytes', { pluginName: 'ö'.repeat(128) }, /pluginName/],
  ['the pluginName .', { pluginName: '.' }, /pluginName/],
  ['the pluginName ..', { pluginName: '..' }, /pluginName/],
  ['a pluginName with a slash', { pluginName: 'a/b' }, /pluginName/],
  ['a pluginName that climbs', { pluginName: '../../etc' }, /pluginName/],
  ['a pluginName with NUL', { pluginName: 'a\0b' }, /pluginName/],

  ['no pluginPath', without('pluginPath'), /pluginPath/],
  ['a relative pluginPath', { pluginPath: 'plugins/a' }, /pluginPath/],
  ['a pluginPath that is not a text', { pluginPath: ['/tmp'] }, /pluginPath/],
  ['an empty pluginPath', { pluginPath: '' }, /pluginPath/],
  ['a pluginPath with NUL', { pluginPath: '/tmp\0/a' }, /pluginPath/],

  ['no command', without('command'), /command/],
  ['an empty command', { command: '' }, /command/],
  ['a command that is not a text', { command: {} }, /command/],
  ['a command with NUL', { command: '/bin/true\0' }, /command/],

  ['no args', without('args'), /args/],
  ['args that are null', { args: null }, /args/],
  ['args that are a text', { args: SECRET_ARGUMENT }, /args/],
  ['an argument that is a number', { args: [SECRET_ARGUMENT, 7] }, /args/],
  ['an argument that is undefined', { args: [SECRET_ARGUMENT, undefined] }, /args/],
  ['an argument with NUL', { args: ['ok', `${SECRET_ARGUMENT}\0`] }, /args/],
  ['an argument that is a symbol', { args: [Symbol(SECRET_ARGUMENT)] }, /args/],

  ['no socketPath', without('socketPath'), /socketPath/],
  ['a relative socketPath', { socketPath: 'daemon.sock' }, /socketPath/],
  ['an empty socketPath', { socketPath: '' }, /socketPath/],
  ['a socketPath that is not a text', { socketPath: 80 }, /socketPath/],
  ['a socketPath with NUL', { socketPath: '/tmp/a\0' }, /socketPath/],
  ['a socketPath of 108 bytes', { socketPath: `/tmp/${'s'.repeat(103)}` }, /socketPath/],
  ['a socketPath of 57 letters in 108 bytes', { socketPath: `/tmp/${'ö'.repeat(51)}s` }, /socketPath/],

  ['no startupTimeout', without('startupTimeout'), /startupTimeout/],
  ['a startupTimeout of 0', { startupTimeout: 0 }, /startupTimeout/],
  ['a negative startupTimeout', { startupTimeout: -1 }, /startupTimeout/],
  ['a startupTimeout that is NaN', { startupTimeout: NaN }, /startupTimeout/],
  ['an infinite startupTimeout', { startupTimeout: Infinity }, /startupTimeout/],
  ['a startupTimeout past what a timer holds', { startupTimeout: Number.MAX_VALUE }, /startupTimeout/],
  ['a startupTimeout that is a text', { startupTimeout: '1000' }, /startupTimeout/],
  ['a startupTimeout that is a bigint', { startupTimeout: 1000n }, /startupTimeout/],
  ['no shutdownGracePeriod', without('shutdownGracePeriod'), /shutdownGracePeriod/],
  ['a negative shutdownGracePeriod', { shutdownGracePeriod: -1 }, /shutdownGracePeriod/],
  ['a shutdownGracePeriod that is NaN', { shutdownGracePeriod: NaN }, /shutdownGracePeriod/],
  ['an infinite shutdownGracePeriod', { shutdownGracePeriod: -Infinity }, /shutdownGracePeriod/],
  ['a shutdownGracePeriod past what a timer holds', { shutdownGracePeriod: 1e300 }, /shutdownGracePeriod/],
  ['a shutdownGracePeriod that is a text', { shutdownGracePeriod: 'soon' }, /shutdownGracePeriod/],

  ['envVars that are a text', { envVars: SECRET_VALUE }, /envVars/],
  ['envVars that are a Map', { envVars: new Map([['TOKEN', SECRET_VALUE]]) }, /envVars must be plain data, got a Map/],
  ['a restart policy that is a Date', { restart: new Date() }, /restart must be plain data, got a Date/],
  ['an empty Map for envVars', { envVars: new Map() }, /envVars must be plain data, got a Map/],
  ['a Map for a healthcheck', { healthcheck: new Map(Object.entries({ interval: 1_000, timeout: 1_000, retries: 3 })) }, /: healthcheck\b/],
  ['an empty Map for a restart policy', { restart: new Map() }, /restart must be plain data, got a Map/],
  ['a Set for a probe', { healthcheck: { ...healthcheck, probe: new Set() } }, /: healthcheck\.probe\b/],
  ['an environment variable that is a number', { envVars: { TOKEN: SECRET_VALUE, PORT: 8080 } }, /envVars.*PORT|PORT.*envVars/],
  ['an environment variable that is null', { envVars: { PORT: null } }, /envVars.*PORT|PORT.*envVars/],
  ['an environment variable with NUL', { envVars: { TOKEN: `${SECRET_VALUE}\0` } }, /envVars.*TOKEN|TOKEN.*envVars/],
  ['an environment variable without a name', { envVars: { '': SECRET_VALUE } }, /envVars/],
  ['a name of an environment variable with =', { envVars: { 'A=B': SECRET_VALUE } }, /envVars/],
  ['a name of an environment variable with NUL', { envVars: { 'A\0B': SECRET_VALUE } }, /envVars/],

  ['a healthcheck that is true', { healthcheck: true }, /healthcheck/],
  ['a healthcheck without interval', { healthcheck: without('interval')(healthcheck) }, /healthcheck.*interval/],
  ['a healthcheck without timeout', { healthcheck: without('timeout')(healthcheck) }, /healthcheck.*timeout/],
  ['a healthcheck without retries', { healthcheck: without('retries')(healthcheck) }, /healthcheck.*retries/],
  ['an interval of 0', { healthcheck: { ...healthcheck, interval: 0 } }, /healthcheck.*interval/],
  ['an interval that is NaN', { healthcheck: { ...healthcheck, interval: NaN } }, /healthcheck.*interval/],
  ['a timeout of 0', { healthcheck: { ...healthcheck, timeout: 0 } }, /healthcheck.*timeout/],
  ['an infinite timeout', { healthcheck: { ...healthcheck, timeout: Infinity } }, /healthcheck.*timeout/],
  ['retries of 0', { healthcheck: { ...healthcheck, retries: 0 } }, /healthcheck.*retries/],
  ['retries that are a text', { healthcheck: { ...healthcheck, retries: '3' } }, /healthcheck.*retries/],
  ['a probe that is a text', { healthcheck: { ...healthcheck, probe: 'socket' } }, /healthcheck.*probe/],
  ['a probe of an unknown type', { healthcheck: { ...healthcheck, probe: { type: 'ping' } } }, /healthcheck.*probe/],
  ['a probe without a type', { healthcheck: { ...healthcheck, probe: {} } }, /healthcheck.*probe/],
  ['a readiness of an unknown type', { readiness: { type: 'telepathy' } }, /readiness/],
  ['a readiness that is a text', { readiness: 'socket' }, /readiness/],

  ['a restart that is a text', { restart: 'always' }, /restart/],
  ['negative maxAttempts', { restart: { maxAttempts: -1 } }, /restart.*maxAttempts/],
  ['maxAttempts that are a text', { restart: { maxAttempts: 'many' } }, /restart.*maxAttempts/],
  ['a negative delay', { restart: { delay: -1 } }, /restart.*delay/],
  ['a delay that is NaN', { restart: { delay: NaN } }, /restart.*delay/],
  ['an unknown backoff', { restart: { backoff: 'fibonacci' } }, /restart.*backoff/],
  ['a factor that is NaN', { restart: { factor: NaN } }, /restart.*factor/],
  ['an infinite maxDelay', { restart: { maxDelay: Infinity } }, /restart.*maxDelay/],
  ['a jitter above 1', { restart: { jitter: 1.5 } }, /restart.*jitter/],
  ['a negative jitter', { restart: { jitter: -0.1 } }, /restart.*jitter/],
  ['a window that is a number', { restart: { window: 10 } }, /restart.*window/],
  ['a window without limit', { restart: { window: { period: 1_000 } } }, /restart.*window.*limit/],
  ['a window without period', { restart: { window: { limit: 3 } } }, /restart.*window.*period/],
  ['a restart on an unknown occasion', { restart: { on: 'never' } }, /restart.*on/],

  ['an unknown killMode', { killMode: 'everything' }, /killMode/],
  ['a stopSignal that is none', { stopSignal: 'SIGNAL' }, /stopSignal/],
  ['a stopSignal that is a number', { stopSignal: 15 }, /stopSignal/],
  ['a socket held by nobody', { socket: 'nobody' }, /socket/],
];

test('the table is long enough', () => {
  expect(cases.length).toBeGreaterThan(80);
  expect(new Set(cases.map(([what]) => what)).size).toBe(cases.length);
});

test.each(cases)('refuses %s', async (_, change, field) => {
  const manager = world.manager();
  const events = record(manager);
  const before = children(process.pid);
  const whole = world.config('plugin', ['willing.py', SECRET_ARGUMENT], { envVars: { API_KEY: SECRET_VALUE } });
  const bad = typeof change === 'function' ? change(whole) : { ...whole, ...change };

  let promise;
  expect(() => (promise = manager.startProcess(bad))).not.toThrow();
  expect(promise).toBeInstanceOf(Promise);
  const error = await failure(promise);

  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toMatch(field);
  // Not only the field's name, but what it must be.
  expect(error.message.length).toBeGreaterThan(20);
  expect(error.message).not.toContain('hunter2');
  expect(error.stack).toContain(error.message);
  if (typeof bad?.pluginName === 'string' && bad.pluginName !== '') expect(error.pluginName).toBe(bad.pluginName);

  // It changed nothing.
  if (typeof bad?.pluginName === 'string') expect(manager.getState(bad.pluginName)).toBeUndefined();
  expect(manager.listProcesses()).toEqual([]);
  expect(events.all).toEqual([]);
  expect(fs.existsSync(world.envsDir)).toBe(false);
  expect(fs.readdirSync(world.pluginPath)).toEqual([]);
  expect(children(process.pid).filter(({ pid }) => !before.some((child) => child.pid === pid))).toEqual([]);
});

const REQUIRED = ['pluginName', 'pluginPath', 'command', 'args', 'socketPath', 'startupTimeout', 'shutdownGracePeriod'];
test.each([
  ...REQUIRED.map((field) => [field, without(field)]),
  ...Object.keys(healthcheck).map((field) => [
    `healthcheck.${field}`,
    (config) => ({ ...config, healthcheck: without(field)(healthcheck) }),
  ]),
  ['restart.window.limit', (config) => ({ ...config, restart: { window: { period: 1_000 } } })],
  ['restart.window.period', (config) => ({ ...config, restart: { window: { limit: 3 } } })],
])('says of %s that it is required, and what it must be', async (field, change) => {
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
])('a configuration whose getter of %s throws is a rejection as well, which does not quote it', async (field, make) => {
  const manager = world.manager();
  const bad = make(() => {
    throw new Error(SECRET_VALUE);
  });
  let promise;
  expect(() => (promise = manager.startProcess(bad))).not.toThrow();
  const error = await failure(promise);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(error.message).toContain(`${field} can't be read`);
  expect(error.message + error.stack).not.toContain('hunter2');
  expect(error.cause).toBeUndefined();
  expect(manager.listProcesses()).toEqual([]);
});

test("a variable of a worker's process.env that no system carries is named, and its value is not", async () => {
  const owner = world.owner('in-worker.js', { configs: [world.config()], workerEnv: { TEST_ODD: `${SECRET_VALUE}\0` } });
  const error = await owner.says('failed');
  expect(error).toMatchObject({ isError: true, code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(error.message).toContain('process.env.TEST_ODD must not contain NUL');
  expect(error.message).not.toContain('hunter2');
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test('no method throws instead of rejecting, whatever it is given', async () => {
  const manager = world.manager();
  for (const method of ['startProcess', 'stopProcess', 'restartProcess', 'upgradeProcess', 'startGroup', 'stopGroup']) {
    for (const argument of [undefined, null, 7, {}, [], Symbol('s'), () => {}]) {
      let promise;
      expect(() => (promise = manager[method](argument))).not.toThrow();
      expect(promise).toBeInstanceOf(Promise);
      const [outcome] = await Promise.allSettled([promise]);
      if (outcome.status === 'rejected') {
        expect(outcome.reason).toBeInstanceOf(Error);
        expect(typeof outcome.reason.code).toBe('string');
      }
    }
  }
  expect(manager.listProcesses()).toEqual([]);
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test.each([[{ signal: 'stop' }], [{ signal: {} }]])('refuses %p for options', async (options) => {
  const manager = world.manager();
  const error = await failure(manager.startProcess(world.config(), options));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(error.message).toMatch(/signal/);
  expect(manager.listProcesses()).toEqual([]);
});

test('is checked before anything else: a running plugin has not noticed', async () => {
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

test('leaves what a failed plugin says about itself', async () => {
  const manager = world.manager();
  const real = await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 3])));
  expect(real.code).toBe('ERR_STARTUP_EXIT');
  const before = manager.getProcessInfo('plugin');
  expect((await failure(manager.startProcess({ ...world.config(), command: '' }))).code).toBe('ERR_INVALID_CONFIG');
  expect(manager.getProcessInfo('plugin')).toEqual(before);
});

test('leaves the files of a plugin alone', async () => {
  const manager = world.manager();
  const folder = world.makeFolder('plugin');
  fs.writeFileSync(`${folder}/daemon.pid`, 'kept');
  fs.writeFileSync(`${folder}/daemon.sock`, 'kept');
  expect((await failure(manager.startProcess({ ...world.config(), args: 'daemon.py' }))).code).toBe('ERR_INVALID_CONFIG');
  expect(fs.readFileSync(`${folder}/daemon.pid`, 'utf8')).toBe('kept');
  expect(fs.readFileSync(`${folder}/daemon.sock`, 'utf8')).toBe('kept');
  expect(fs.readdirSync(folder).sort()).toEqual(['daemon.pid', 'daemon.sock']);
});

test('lets unknown keys through, with a warning', async () => {
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
])('lets unknown keys through that hold %s, with a warning for each', async (_, make) => {
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
])('accepts %s', async (_, change) => {
  const manager = world.manager();
  await expect(manager.startProcess({ ...world.config(), ...change })).resolves.toBeUndefined();
});
