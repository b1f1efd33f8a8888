'use strict';

// Configurations and manifests that the TypeScript original runs.

const fs = require('node:fs');
const { BackgroundProcessManager, configFromManifest } = require('../..');
const { thrown } = require('../helpers/promises');
const { useReport } = require('../helpers/report');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { expectProblem, problemOf } = require('./samples');

const world = useWorld();
const { report } = useReport(world);

test.each([
  ['an empty healthcheck', { healthcheck: {} }],
  ['a healthcheck with retries only', { healthcheck: { retries: 2 } }],
  ['a healthcheck with an interval only', { healthcheck: { interval: 60_000 } }],
  ['a healthcheck of null', { healthcheck: null }],
  ['a healthcheck with null fields', { healthcheck: { interval: null, timeout: null, retries: null, probe: null } }],
  ['retries of 0', { healthcheck: { interval: 60_000, timeout: 1_000, retries: 0 } }],
  [
    'null for each optional field',
    Object.fromEntries(
      ['envVars', 'restart', 'readiness', 'killMode', 'stopSignal', 'socket', 'start', 'shared', 'inheritEnv', 'logs', 'limits'].map(
        (key) => [key, null],
      ),
    ),
  ],
  ['null in a restart policy', { restart: { maxAttempts: null, window: null } }],
  ['timeouts that no timer holds', { startupTimeout: 1e12, shutdownGracePeriod: Number.MAX_VALUE, healthcheck: { interval: 1e300 } }],
])('startProcess: accepts %s, and getProcessInfo().config shows what was given', async (_, change) => {
  const manager = world.manager();
  const config = { ...world.config(), ...change };
  await manager.startProcess(config);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(manager.getProcessInfo('plugin').config).toEqual(config);
});

test('args and envVars: numbers and booleans are taken as their text', async () => {
  const manager = world.manager();
  const envVars = { PORT: 8080, RATIO: 0.5, BIG: 1e21, TINY: 1e-7, ON: true, OFF: false };
  const numbers = [8080, -0, 1.5e300];
  const { args } = world.config('plugin', ['reports-its-process.py', world.path('report')]);
  const { arguments: seen, environment } = await report(manager, { envVars, args: [...args, ...numbers] });
  for (const [key, value] of Object.entries(envVars)) expect([key, environment[key]]).toEqual([key, String(value)]);
  expect(seen.slice(-3)).toEqual(['8080', '0', '1.5e+300']);
  const { config } = manager.getProcessInfo('plugin');
  expect(config.args.slice(-3)).toEqual(numbers);
  expect(config.envVars).toEqual(envVars);
});

test('healthcheck.retries: 0 counts as 1: the first failed check replaces the daemon', async () => {
  const manager = world.manager();
  const failures = [];
  manager.on('health', ({ healthy, failures: count }) => !healthy && failures.push(count));
  await manager.startProcess(
    world.config('plugin', ['serves.py'], { restart: { delay: 0 }, healthcheck: { interval: 20, timeout: 500, retries: 0 } }),
  );
  const first = manager.getPid('plugin');
  fs.rmSync(world.socket('plugin'));
  await until(() => runsAnew(manager, 'plugin', first));
  expect(failures).toEqual([1]);
  expect(manager.getProcessInfo('plugin').lastExit.reason).toBe('unhealthy');
});

describe('configFromManifest', () => {
  const at = { pluginPath: '/plugins/search', envsDir: '/envs' };
  const daemon = (section) => configFromManifest({ name: 'search', daemon: { command: 'node', ...section } }, at);
  const background = (section, place = at) => configFromManifest({ name: 'search', background: { command: 'python3', ...section } }, place);

  test('null counts as absent', () => {
    const nulls = { args: null, healthcheck: null, envVars: null, startupTimeout: null, shutdownGracePeriod: null, socketPath: null };
    expect(daemon(nulls)).toEqual(daemon({}));
    expect(daemon({ healthcheck: { interval: null, retries: 5 } }).healthcheck).toEqual({ interval: 30_000, timeout: 5_000, retries: 5 });
    expect(configFromManifest({ name: 'search', daemon: { command: 'node' } }, { ...at, pythonPath: null, envVars: null })).toEqual(
      daemon({}),
    );
  });

  test('numbers and booleans become text', () => {
    const config = daemon({ args: ['--port', 8080], envVars: { PORT: 8080, DEBUG: true } });
    expect(config.args).toEqual(['--port', '8080']);
    expect(config.envVars).toEqual({ PORT: '8080', DEBUG: 'true' });
  });

  test("reads Ally's background section where there is no daemon section", () => {
    const section = {
      enabled: true,
      args: ['daemon.py', 7],
      communication: { type: 'socket', path: '/run/search.sock' },
      events: ['TOOL_CALL_START'],
      healthcheck: { interval: 10_000 },
      startup_timeout: 60_000,
      shutdown_grace_period: 1_000,
    };
    expect(background(section, { ...at, envVars: { PORT: 1 } })).toEqual({
      pluginName: 'search',
      pluginPath: '/plugins/search',
      command: '/envs/search/bin/python3',
      args: ['daemon.py', '7'],
      socketPath: '/run/search.sock',
      startupTimeout: 60_000,
      shutdownGracePeriod: 1_000,
      healthcheck: { interval: 10_000, timeout: 5_000, retries: 3 },
      envVars: { PORT: '1' },
    });
    // The daemon section wins.
    const both = { name: 'search', daemon: { command: 'node' }, background: { command: 'ruby', enabled: false } };
    expect(configFromManifest(both, at).command).toBe('node');
    expect(configFromManifest({ ...both, daemon: null, background: { command: 'ruby' } }, at).command).toBe('ruby');
  });

  test('background: has the defaults of a daemon section', () => {
    const least = {
      pluginName: 'search',
      pluginPath: '/plugins/search',
      command: '/envs/search/bin/python3',
      args: [],
      socketPath: '/envs/search/daemon.sock',
      startupTimeout: 30_000,
      shutdownGracePeriod: 5_000,
    };
    expect(background({})).toEqual(least);
    expect(background({ enabled: null, args: null, communication: null, startup_timeout: null, healthcheck: null })).toEqual(least);
    expect(background({ communication: { type: 'socket', path: null } })).toEqual(least);
  });

  test.each([
    ['enabled: false', { enabled: false }, 'manifest.background.enabled'],
    ['a relative socket', { communication: { path: 'daemon.sock' } }, 'manifest.background.communication.path'],
    ['another communication', { communication: { type: 'http' } }, 'manifest.background.communication.type'],
    ['a communication that is a text', { communication: '/run/search.sock' }, 'manifest.background.communication'],
    ['a startup_timeout that is a text', { startup_timeout: 'long' }, 'manifest.background.startup_timeout'],
    ['a shutdown_grace_period below 0', { shutdown_grace_period: -1 }, 'manifest.background.shutdown_grace_period'],
    ['no command', { command: undefined }, 'manifest.background.command'],
    ['args that are a text', { args: 'daemon.py' }, 'manifest.background.args'],
    ['an interval of 0', { healthcheck: { interval: 0 } }, 'manifest.background.healthcheck.interval'],
  ])('background: with %s throws ERR_INVALID_CONFIG', (_, section, field) => {
    const error = thrown(() => background(section));
    expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'search' });
    expectProblem(error, field);
  });

  test('a background section that is no object throws ERR_INVALID_CONFIG', () => {
    for (const section of ['daemon.py', [], true]) {
      const error = thrown(() => configFromManifest({ name: 'search', background: section }, at));
      expect(problemOf(error)).toMatch(/^manifest\.background must be an object, got /);
    }
  });

  test('with neither section, the daemon section is named as required', () => {
    for (const manifest of [{ name: 'search' }, { name: 'search', daemon: null, background: null }]) {
      expect(problemOf(thrown(() => configFromManifest(manifest, at)))).toMatch(/^manifest\.daemon is required: /);
    }
  });
});

test('options of the manager: null counts as absent', () => {
  const options = { envsDir: null, logger: null, onOwnerDeath: null, defaults: null };
  expect(() => new BackgroundProcessManager(options)).not.toThrow();
  expect(() => new BackgroundProcessManager({ ...options, logger: false })).toThrow('logger');
});
