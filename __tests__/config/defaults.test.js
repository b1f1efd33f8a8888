'use strict';

const { BackgroundProcessManager } = require('../..');
const { failure } = require('../helpers/promises');
const { useReport } = require('../helpers/report');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { expectProblem, without } = require('./samples');

const world = useWorld();
const { report } = useReport(world);

test('defaults: fill in absent and undefined fields; null is absent and takes no default; config shows what was given', async () => {
  world.setEnvironment({ TEST_OTHER: 'x' });
  const manager = world.manager({ defaults: { envVars: { TEST_DEFAULT: 'd', TEST_BOTH: 'd' }, inheritEnv: false, restart: { delay: 0 } } });
  const seen = async (changes) => {
    const { environment } = await report(manager, changes);
    expect(manager.getProcessInfo('plugin').config).toEqual(expect.objectContaining(changes));
    expect(Object.keys(manager.getProcessInfo('plugin').config).sort()).toEqual(Object.keys(world.config('plugin', [], changes)).sort());
    await manager.stopProcess('plugin');
    return [environment.TEST_DEFAULT, environment.TEST_BOTH, environment.TEST_OTHER];
  };
  expect(await seen({})).toEqual(['d', 'd', undefined]);
  expect(await seen({ envVars: undefined, inheritEnv: undefined })).toEqual(['d', 'd', undefined]);
  expect(await seen({ envVars: null, inheritEnv: null })).toEqual([undefined, undefined, 'x']);
  // Whole fields, and not parts of them.
  expect(await seen({ envVars: { TEST_BOTH: 'own' } })).toEqual([undefined, 'own', undefined]);
});

test('defaults: give a start what is required, and a restart uses them too', async () => {
  const manager = world.manager({
    defaults: { startupTimeout: 15_000, shutdownGracePeriod: 500, restart: { delay: 0 }, healthcheck: { interval: 20, retries: 1 } },
  });
  const passed = [];
  manager.on('health', ({ healthy }) => healthy && passed.push(manager.getPid('plugin')));
  await manager.startProcess(without('startupTimeout', 'shutdownGracePeriod')(world.config()));
  const first = manager.getPid('plugin');
  await until(() => passed.includes(first));
  process.kill(first, 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', first));
  const second = manager.getPid('plugin');
  await until(() => passed.includes(second));
  await manager.restartProcess('plugin');
  await until(() => passed.includes(manager.getPid('plugin')) && manager.getPid('plugin') !== second);
  const { config } = manager.getProcessInfo('plugin');
  for (const key of ['startupTimeout', 'shutdownGracePeriod', 'restart', 'healthcheck']) expect(config).not.toHaveProperty(key);
});

test('defaults: are copied by the constructor', async () => {
  const defaults = { envVars: { TEST_DEFAULT: 'before' } };
  const manager = world.manager({ defaults });
  defaults.envVars.TEST_DEFAULT = 'after';
  defaults.inheritEnv = false;
  expect((await report(manager)).environment.TEST_DEFAULT).toBe('before');
});

test('defaults: a wrong configuration is refused as without them', async () => {
  const manager = world.manager({ defaults: { restart: { delay: 0 } } });
  for (const config of [undefined, null, 7, 'plugin', []]) {
    const error = await failure(manager.startProcess(config));
    expect(error.code).toBe('ERR_INVALID_CONFIG');
    expectProblem(error, 'config');
  }
  expectProblem(await failure(manager.startProcess(new Map())), 'config must be plain data, got a Map');
  expectProblem(await failure(manager.startProcess({ ...world.config(), restart: { delay: -1 } })), 'restart.delay');
});

test.each([
  ['no object', 'fast', 'defaults'],
  ['an array', [], 'defaults'],
  ['a Map', new Map(), 'defaults must be plain data, got a Map'],
  ['a wrong value', { restart: { delay: -1 } }, 'defaults.restart.delay'],
  ['a wrong type', { healthcheck: true }, 'defaults.healthcheck'],
  ['a Map in a field', { envVars: new Map() }, 'defaults.envVars must be plain data, got a Map'],
  ['a negative startupTimeout', { startupTimeout: -1 }, 'defaults.startupTimeout'],
  ['a pluginName', { pluginName: 'a' }, 'defaults.pluginName must not be given: each plugin has its own'],
  ['a command', { command: 'a' }, 'defaults.command must not be given: each plugin has its own'],
  ['args', { args: [] }, 'defaults.args must not be given: each plugin has its own'],
])('ERR_INVALID_CONFIG: the constructor refuses defaults with %s', (_, defaults, field) => {
  const error = thrown(defaults);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expectProblem(error, field);
});

test.each([
  ['an unknown key', { retsart: {} }, 'defaults.retsart is no key of a configuration'],
  ['an unknown key below', { restart: { dealy: 1 } }, 'defaults.restart.dealy is no key of a configuration'],
  [
    'one log file for all plugins',
    { logs: { file: '/var/log/plugin.log' } },
    'defaults.logs.file must contain {name}, which becomes the name of the plugin: no two plugins can write one file',
  ],
  [
    'a getter that throws',
    {
      get restart() {
        throw new Error('hunter2');
      },
    },
    "defaults.restart can't be read: what should give its value throws",
  ],
])('ERR_INVALID_CONFIG: the constructor refuses defaults with %s by its whole name', (_, defaults, problem) => {
  const error = thrown(defaults);
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', message: `Invalid configuration: ${problem}` });
});

test.each([[undefined], [null], [{}], [{ restart: null, healthcheck: undefined }]])('defaults: %p is no fault', async (defaults) => {
  const manager = world.manager({ defaults });
  await manager.startProcess(world.config());
  expect(manager.isRunning('plugin')).toBe(true);
});

function thrown(defaults) {
  try {
    new BackgroundProcessManager({ envsDir: world.envsDir, defaults });
  } catch (error) {
    return error;
  }
  throw new Error('expected it to throw');
}
