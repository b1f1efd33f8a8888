'use strict';

const fs = require('node:fs');
const { execFileSync } = require('node:child_process');
const { BackgroundProcessManager, PLUGIN_TIMEOUTS, ProcessState, configFromManifest } = require('../..');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

test('package: exports the manager, ProcessState, PLUGIN_TIMEOUTS and configFromManifest', () => {
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

test('package: has the same named exports under import', () => {
  const source = `
      import all, { BackgroundProcessManager, ProcessState, PLUGIN_TIMEOUTS, configFromManifest } from ${JSON.stringify(require.resolve('../..'))};
      const manager = new BackgroundProcessManager({ envsDir: '/nonexistent' });
      console.log(JSON.stringify([
        manager instanceof all.BackgroundProcessManager, ProcessState.RUNNING, PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
        typeof configFromManifest, manager.isRunning('x'),
      ]));`;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
  expect(JSON.parse(output)).toEqual([true, 'running', 30_000, 'function', false]);
});

test.each([
  [{ envsDir: 7 }, 'envsDir must be an absolute path'],
  [{ envsDir: 'a\0b' }, 'envsDir must be an absolute path'],
  [{ logger: 'console' }, 'logger must have a method debug'],
  [{ logger: {} }, 'logger must have a method debug'],
  [{ logger: { debug() {}, info() {}, warn: 'loud', error() {} } }, 'logger must have a method warn'],
  [{ onOwnerDeath: 'die' }, "onOwnerDeath must be one of 'stop', 'keep'"],
  [{ onOwnerDeath: true }, "onOwnerDeath must be one of 'stop', 'keep'"],
  ['options', 'options must be an object'],
  [7, 'options must be an object'],
])('new BackgroundProcessManager: refuses the options %j with ERR_INVALID_CONFIG: %s', (options, problem) => {
  let error;
  try {
    new BackgroundProcessManager(options);
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toBe(`Invalid configuration: ${problem}`);
});

test.each([
  [undefined],
  [{}],
  [{ envsDir: undefined, logger: undefined, onOwnerDeath: undefined }],
  [{ onOwnerDeath: 'keep' }],
  [{ logger: { debug() {}, info() {}, warn() {}, error() {} } }],
])('new BackgroundProcessManager: accepts the options %p and starts nothing', (options) => {
  expect(new BackgroundProcessManager(options).listProcesses()).toEqual([]);
});

test('new BackgroundProcessManager: accepts console as logger', () => {
  expect(new BackgroundProcessManager({ logger: console }).listProcesses()).toEqual([]);
});

test('envsDir: the default is below HOME at the time of construction', async () => {
  world.setEnvironment({ HOME: world.path('home') });
  fs.mkdirSync(world.path('home'));
  const manager = world.manager({ envsDir: undefined });
  process.env.HOME = world.path('another');
  await manager.startProcess(world.config('plugin', ['serves.py'], { socketPath: world.path('s') }));
  const file = world.path('home', '.ally', 'plugin-envs', 'plugin', 'daemon.pid');
  expect(fs.readFileSync(file, 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
  expect(fs.existsSync(world.path('another'))).toBe(false);
});
