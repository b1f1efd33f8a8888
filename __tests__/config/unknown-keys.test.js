'use strict';

const fs = require('node:fs');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const UNKNOWN = 'unknown configuration key ';

/** A manager, and the unknown keys that it has warned of. */
function watched() {
  const warnings = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (message) => warnings.push(message) };
  const keys = () => warnings.filter((message) => message.includes(UNKNOWN)).map((message) => message.split(UNKNOWN)[1]);
  return { manager: world.manager({ logger }), keys };
}

const accessor = (get) => ({ enumerable: true, configurable: true, get });
const explode = () => {
  throw new Error('an accessor of an unknown key was called');
};

test('unknown keys: own data is carried over by reference, unread and not frozen', async () => {
  const { manager, keys } = watched();
  const mine = { of: { any: { depth: { at: { all: 1 } } } }, round: undefined };
  mine.round = mine;
  Object.defineProperty(mine, 'dangerous', accessor(explode));
  const map = new Map();
  await manager.startProcess({ ...world.config(), mine, map, restart: { mine }, readiness: { type: 'socket', mine } });
  const { config } = manager.getProcessInfo('plugin');
  expect(config.mine).toBe(mine);
  expect(config.map).toBe(map);
  expect(config.restart.mine).toBe(mine);
  expect(config.readiness.mine).toBe(mine);
  expect(Object.isFrozen(mine)).toBe(false);
  for (const known of [config, config.args, config.restart, config.readiness]) expect(Object.isFrozen(known)).toBe(true);
  await until(() => keys().length >= 4);
  expect(keys().sort()).toEqual(['map', 'mine', 'readiness.mine', 'restart.mine']);
});

test('unknown keys: a big or hostile value is not read, so that it can not block the JavaScript thread', async () => {
  const { manager } = watched();
  const traps = ['get', 'has', 'ownKeys', 'getPrototypeOf', 'getOwnPropertyDescriptor', 'isExtensible', 'preventExtensions'];
  const hostile = new Proxy({}, Object.fromEntries(traps.map((trap) => [trap, explode])));
  // Hours, if anything walked it: 2^60 paths through 60 objects.
  let big = {};
  for (let depth = 0; depth < 60; depth++) big = { left: big, right: big };
  const given = { ...world.config(), big, restart: { maxAttempts: 1, big } };
  given.hostile = hostile;
  await manager.startProcess(given);
  const { config } = manager.getProcessInfo('plugin');
  // Not with toBe, which would read both when they differ.
  expect([config.big === big, config.restart.big === big, config.hostile === hostile]).toEqual([true, true, true]);
});

test('unknown keys: an accessor is not called and left out, and the warning names it', async () => {
  const { manager, keys } = watched();
  const config = Object.defineProperty(world.config(), 'extra', accessor(explode));
  config.restart = Object.defineProperty({ maxAttempts: 1 }, 'extra', accessor(explode));
  await manager.startProcess(config);
  const copy = manager.getProcessInfo('plugin').config;
  expect('extra' in copy).toBe(false);
  expect('extra' in copy.restart).toBe(false);
  expect(copy.restart.maxAttempts).toBe(1);
  await until(() => keys().length >= 2);
  expect(keys().sort()).toEqual(['extra', 'restart.extra']);
});

test('unknown keys: inherited ones do not count', async () => {
  const { manager, keys } = watched();
  const helper = { configurable: true, enumerable: true, value: () => {} };
  Object.defineProperty(Object.prototype, 'helperOfTheTest', helper);
  try {
    await manager.startProcess({ ...world.config(), restart: { maxAttempts: 1 }, envVars: { A: 'b' } });
  } finally {
    delete Object.prototype.helperOfTheTest;
  }
  const { config } = manager.getProcessInfo('plugin');
  expect(Object.keys(config.envVars)).toEqual(['A']);
  expect(Object.keys(config)).not.toContain('helperOfTheTest');
  await manager.stopProcess('plugin');
  expect(keys()).toEqual([]);
});

test('known keys: inherited ones and getters count, and each is read once', async () => {
  const { manager } = watched();
  const reads = [];
  class Config {}
  for (const [key, value] of Object.entries(world.config('plugin', ['serves.py'], { healthcheck: undefined, envVars: { A: 'b' } }))) {
    Object.defineProperty(Config.prototype, key, {
      get() {
        reads.push(key);
        return value;
      },
    });
  }
  await manager.startProcess(new Config());
  expect(reads.slice().sort()).toEqual([...new Set(reads)].sort());
  expect(reads).toContain('socketPath');
  expect(manager.getProcessInfo('plugin').config.envVars).toEqual({ A: 'b' });
});

test('known keys: the copy does not change with the original', async () => {
  const { manager } = watched();
  const config = world.config('plugin', ['serves.py'], { envVars: { A: 'b' }, healthcheck: { interval: 1e6, timeout: 1, retries: 1 } });
  await manager.startProcess(config);
  const before = structuredClone(config);
  config.args.push('more');
  config.envVars.A = 'c';
  config.healthcheck.interval = 1;
  expect(manager.getProcessInfo('plugin').config).toEqual(before);
});

test.each([
  ['a whole configuration', () => new Map(), 'config must be plain data, got a Map'],
  ['envVars', (config) => ({ ...config, envVars: new Map() }), 'envVars must be plain data, got a Map'],
  ['a nested object', (config) => ({ ...config, restart: { window: new Set() } }), 'restart.window must be plain data, got a Set'],
  ['a single value', (config) => ({ ...config, command: new String('true') }), 'command must be a string, got an object'],
  ['an item', (config) => ({ ...config, args: [new Date()] }), 'args[0] must be a string, got an object'],
])('what keeps its contents where no property shows them is refused as %s', async (_, make, problem) => {
  const error = await failure(world.manager().startProcess(make(world.config())));
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toContain(problem);
});

describe('fields of log entries', () => {
  test('have the type that they were logged with', async () => {
    const entries = [];
    const take = (level) => (message, fields) => entries.push({ level, message, fields });
    const logger = { debug: take('debug'), info: take('info'), warn: take('warn'), error: take('error') };
    const manager = world.manager({ logger });
    await manager
      .startProcess(world.config('123', ['exits.py', '--code', 3], { restart: { maxAttempts: 1, delay: 1.5, jitter: 0 } }))
      .catch(() => {});
    const of = (what) => entries.find(({ message }) => message.startsWith(`123: ${what} (`));
    await until(() => of('started'));
    await manager.stopAllProcesses();
    await until(() => of('exited'));
    const started = of('started');
    // A name that looks like a number is a text.
    expect(started.fields).toEqual({ pluginName: '123', pid: expect.any(Number) });
    const exited = of('exited');
    expect(exited.fields).toMatchObject({ pid: started.fields.pid, reason: expect.any(String), ending: expect.any(String) });
  });

  test('pids of orphans are a text, also where there is one', async () => {
    const entries = [];
    const logger = { debug() {}, info() {}, error() {}, warn: (message, fields) => entries.push({ message, fields }) };
    world.makeFolder('plugin');
    const orphan = world.orphan(['serves.py'], { socketPath: world.socket('plugin') });
    await until(() => connects(world.socket('plugin')));
    fs.writeFileSync(world.pidFile('plugin'), `${orphan.pid}\n`);
    await world.manager({ logger }).startProcess(world.config());
    await until(() => entries.some(({ message }) => message.includes('daemon.pid names')));
    const { fields } = entries.find(({ message }) => message.includes('daemon.pid names'));
    expect(fields).toEqual({ pluginName: 'plugin', pids: String(orphan.pid) });
  });
});
