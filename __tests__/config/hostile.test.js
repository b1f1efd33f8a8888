'use strict';

const { BackgroundProcessManager, configFromManifest } = require('../..');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

const explode = () => {
  throw new Error('hunter2');
};
const traps = ['get', 'has', 'ownKeys', 'getPrototypeOf', 'getOwnPropertyDescriptor'];
/** Values whose properties can't be read. A function each, because jest shows the values of a table. */
const hostile = {
  'a proxy that throws': () => new Proxy({}, Object.fromEntries(traps.map((trap) => [trap, explode]))),
  'a revoked proxy': () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
};
const getter = (key) => Object.defineProperty({}, key, { enumerable: true, get: explode });

function thrown(call) {
  try {
    call();
  } catch (error) {
    return error;
  }
}

function expectUnreadable(error, field) {
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toContain(`${field} can't be read`);
  expect(`${error.stack}`).not.toContain('hunter2');
}

test.each(Object.keys(hostile))('ERR_INVALID_CONFIG: the constructor is given %s', (kind) => {
  const value = hostile[kind];
  expectUnreadable(
    thrown(() => new BackgroundProcessManager(value())),
    'options',
  );
  expectUnreadable(
    thrown(() => new BackgroundProcessManager({ logger: value() })),
    'options',
  );
  expectUnreadable(
    thrown(() => new BackgroundProcessManager({ defaults: value() })),
    'defaults',
  );
});

test('ERR_INVALID_CONFIG: a getter of an option, of a manifest or of `at` throws', () => {
  const at = { pluginPath: '/' };
  const daemon = { command: 'x' };
  for (const [field, call] of [
    ['options', () => new BackgroundProcessManager(getter('envsDir'))],
    ['options', () => new BackgroundProcessManager(getter('unknown'))],
    ['manifest', () => configFromManifest(getter('name'), at)],
    ['manifest.daemon', () => configFromManifest({ name: 'p', daemon: getter('command') }, at)],
    ['manifest.background', () => configFromManifest({ name: 'p', background: getter('command') }, at)],
    ['at', () => configFromManifest({ name: 'p', daemon }, getter('pluginPath'))],
    ['at', () => configFromManifest({ name: 'p', daemon }, { ...at, envVars: getter('A') })],
  ])
    expectUnreadable(thrown(call), field);
});

test.each(Object.keys(hostile))('ERR_INVALID_CONFIG: configFromManifest is given %s', (kind) => {
  const value = hostile[kind];
  const at = { pluginPath: '/' };
  const of = (daemon) => thrown(() => configFromManifest({ name: 'p', daemon }, at));
  expectUnreadable(
    thrown(() => configFromManifest(value(), at)),
    'manifest',
  );
  expectUnreadable(
    thrown(() => configFromManifest({ name: 'p', daemon: { command: 'x' } }, value())),
    'at',
  );
  expectUnreadable(of(value()), 'manifest.daemon');
  for (const key of ['healthcheck', 'envVars']) expectUnreadable(of({ command: 'x', [key]: value() }), 'manifest.daemon');
});

test('args: a list of four billion holes is refused at once, and an array is read without its own methods', async () => {
  const manager = world.manager();
  const holes = [];
  holes.length = 2 ** 32 - 1;
  const error = await failure(manager.startProcess(world.config('plugin', [], { args: holes })));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', message: expect.stringContaining('args must have at most 1000000 items') });

  const config = world.config();
  config.args.map = explode;
  Object.defineProperty(config.args, 'constructor', { get: explode });
  await manager.startProcess(config);
  expect(Object.isFrozen(manager.getProcessInfo('plugin').config.args)).toBe(true);
});

test('unknown keys: at most 20 warnings, none with a whole megabyte, and one with the number of the others', async () => {
  const warnings = [];
  const ignore = () => {};
  const manager = world.manager({ logger: { debug: ignore, info: ignore, error: ignore, warn: (text) => warnings.push(text) } });
  const many = Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`key${index}`, index]));
  await manager.startProcess({ ['x'.repeat(2 ** 20)]: 1, ...many, ...world.config() });
  await until(() => warnings.some((text) => text.endsWith('unknown configuration key … and 981 more')));
  expect(warnings.filter((text) => text.includes('unknown configuration key'))).toHaveLength(21);
  expect(Math.max(...warnings.map((text) => text.length))).toBeLessThan(300);
});

test('getOutput: a number of lines that is no number counts as 0', () => {
  const manager = world.manager();
  for (const lines of [Symbol('s'), { valueOf: explode }, {}, explode, Number.NaN, null])
    expect(manager.getOutput('plugin', lines)).toEqual([]);
});
