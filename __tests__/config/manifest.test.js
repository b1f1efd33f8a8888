'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { PLUGIN_TIMEOUTS, configFromManifest } = require('../..');
const { thrown } = require('../helpers/promises');
const { PYTHON } = require('../helpers/python');
const { connects } = require('../helpers/sockets');
const { useWorld } = require('../helpers/use-world');
const { DAEMONS } = require('../helpers/world');
const { expectProblem } = require('./samples');

const world = useWorld();

const manifest = (daemon = {}, changes = {}) => ({
  name: 'search-plugin',
  version: '1.0.0',
  runtime: 'python3',
  daemon: { command: 'python3', args: ['daemon.py'], ...daemon },
  ...changes,
});

const at = { pluginPath: '/plugins/search', envsDir: '/envs' };

test('configFromManifest: fills in the defaults of the specification', () => {
  const config = configFromManifest(manifest(), at);
  expect(config).toEqual({
    pluginName: 'search-plugin',
    pluginPath: '/plugins/search',
    command: '/envs/search-plugin/bin/python3',
    args: ['daemon.py'],
    socketPath: '/envs/search-plugin/daemon.sock',
    startupTimeout: 30_000,
    shutdownGracePeriod: 5_000,
  });
  expect(config.healthcheck).toBeUndefined();
  expect(config.startupTimeout).toBe(PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP);
  expect(config.shutdownGracePeriod).toBe(PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD);
});

test('configFromManifest: keeps a complete healthcheck', () => {
  const healthcheck = { interval: 1_000, timeout: 200, retries: 7 };
  expect(configFromManifest(manifest({ healthcheck }), at).healthcheck).toEqual(healthcheck);
});

test('configFromManifest: completes healthcheck with the defaults of the specification', () => {
  expect(configFromManifest(manifest({ healthcheck: { retries: 1 } }), at).healthcheck).toEqual({
    interval: 30_000,
    timeout: 5_000,
    retries: 1,
  });
  expect(configFromManifest(manifest({ healthcheck: {} }), at).healthcheck).toEqual({ interval: 30_000, timeout: 5_000, retries: 3 });
});

test('configFromManifest: without args has an empty list', () => {
  expect(configFromManifest(manifest({ args: undefined }), at).args).toEqual([]);
});

test('configFromManifest: pythonPath replaces the command python3', () => {
  const config = configFromManifest(manifest(), { ...at, pythonPath: '/opt/python' });
  expect(config.command).toBe('/opt/python');
  expect(config.socketPath).toBe('/envs/search-plugin/daemon.sock');
});

test.each(['node', '/usr/bin/python3', 'python3.12', 'python'])('configFromManifest: keeps the command %s', (command) => {
  expect(configFromManifest(manifest({ command }), { ...at, pythonPath: '/opt/python' }).command).toBe(command);
});

test('configFromManifest: takes envVars from its second argument', () => {
  const envVars = { API_KEY: 'k', HOME: undefined };
  const config = configFromManifest(manifest(), { ...at, envVars });
  expect(config.envVars).toEqual(envVars);
  expect(Object.keys(config.envVars)).toEqual(['API_KEY', 'HOME']);
});

test('configFromManifest: envsDir defaults to a folder below HOME', () => {
  world.setEnvironment({ HOME: '/home/of-the-test' });
  const config = configFromManifest(manifest(), { pluginPath: '/plugins/search' });
  expect(config.command).toBe('/home/of-the-test/.ally/plugin-envs/search-plugin/bin/python3');
  expect(config.socketPath).toBe('/home/of-the-test/.ally/plugin-envs/search-plugin/daemon.sock');
});

test.each([
  ['empty', ''],
  ['not set', undefined],
])("configFromManifest: envsDir defaults to the user database's home where HOME is %s", (_, value) => {
  world.setEnvironment({ HOME: value });
  const { homedir } = os.userInfo();
  expect(path.isAbsolute(homedir)).toBe(true);
  const config = configFromManifest(manifest(), { pluginPath: '/plugins/search' });
  expect(config.socketPath).toBe(path.join(homedir, '.ally', 'plugin-envs', 'search-plugin', 'daemon.sock'));
});

test('configFromManifest: leaves the manifest unchanged and shares no object with it', () => {
  const given = manifest({ healthcheck: { interval: 1, timeout: 1, retries: 1 } });
  const before = structuredClone(given);
  const config = configFromManifest(given, at);
  config.args.push('more');
  config.healthcheck.retries = 9;
  expect(given).toEqual(before);
});

test.each([
  ['nothing', undefined, 'manifest'],
  ['null', null, 'manifest'],
  ['a text', 'plugin.json', 'manifest'],
  ['no name', manifest({}, { name: undefined }), 'manifest.name'],
  ['an empty name', manifest({}, { name: '' }), 'manifest.name'],
  ['a name that is a number', manifest({}, { name: 7 }), 'manifest.name'],
  ['a name that climbs', manifest({}, { name: '../evil' }), 'manifest.name'],
  ['no daemon', { name: 'a' }, 'manifest.daemon'],
  ['a daemon that is a text', { name: 'a', daemon: 'python3 daemon.py' }, 'manifest.daemon'],
  ['no command', manifest({ command: undefined }), 'manifest.daemon.command'],
  ['an empty command', manifest({ command: '' }), 'manifest.daemon.command'],
  ['a command that is a list', manifest({ command: ['python3'] }), 'manifest.daemon.command'],
  ['args that are a text', manifest({ args: 'daemon.py' }), 'manifest.daemon.args'],
  ['an argument that is a boolean', manifest({ args: ['daemon.py', true] }), 'manifest.daemon.args[1]'],
  ['a healthcheck that is true', manifest({ healthcheck: true }), 'manifest.daemon.healthcheck'],
  ['an interval of 0', manifest({ healthcheck: { interval: 0, timeout: 1, retries: 1 } }), 'manifest.daemon.healthcheck.interval'],
  [
    'a timeout that is a text',
    manifest({ healthcheck: { interval: 1, timeout: 'soon', retries: 1 } }),
    'manifest.daemon.healthcheck.timeout',
  ],
  ['negative retries', manifest({ healthcheck: { interval: 1, timeout: 1, retries: -1 } }), 'manifest.daemon.healthcheck.retries'],
])('configFromManifest: a manifest with %s throws ERR_INVALID_CONFIG', (_, bad, field) => {
  const error = thrown(() => configFromManifest(bad, at));
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expectProblem(error, field);
});

test.each([
  ['nothing', undefined, 'at'],
  ['no pluginPath', {}, 'at.pluginPath'],
  ['a relative pluginPath', { pluginPath: 'plugins/search' }, 'at.pluginPath'],
  ['an envsDir that is a number', { ...at, envsDir: 7 }, 'at.envsDir'],
  ['a pythonPath that is a number', { ...at, pythonPath: 7 }, 'at.pythonPath'],
  ['a variable that is an array', { ...at, envVars: { PORT: [8080] } }, 'manifest.daemon.envVars.PORT'],
])('configFromManifest: a second argument with %s throws ERR_INVALID_CONFIG', (_, place, field) => {
  const error = thrown(() => configFromManifest(manifest(), place));
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expectProblem(error, field);
});

test.each([
  ['manifest', undefined, at],
  ['manifest.name', manifest({}, { name: undefined }), at],
  ['manifest.daemon.command', manifest({ command: undefined }), at],
  ['at', manifest(), undefined],
  ['at.pluginPath', manifest(), { envsDir: '/envs' }],
])('configFromManifest: a missing %s is named as required, with the type that it must have', (field, given, place) => {
  expect(thrown(() => configFromManifest(given, place)).message).toContain(`${field} is required and must be `);
});

test.each([
  ['manifest.daemon', manifest({}, { daemon: new Map() }), at],
  ['manifest.daemon.healthcheck', manifest({ healthcheck: new Map() }), at],
  ['manifest.daemon.envVars', manifest({ envVars: new Map([['TOKEN', 'hunter2-value']]) }), at],
  ['at.envVars', manifest(), { ...at, envVars: new Map([['TOKEN', 'hunter2-value']]) }],
])('configFromManifest: %s must be plain data, and a Map is refused', (field, given, place) => {
  const { message } = thrown(() => configFromManifest(given, place));
  expect(message).toMatch(new RegExp(`${field.replaceAll('.', '\\.')} must be .*, got a Map$`));
  expect(message).not.toContain('hunter2');
});

test('configFromManifest: no error message contains an argument or a value of a variable', () => {
  const bad = manifest({ args: ['hunter2-argument', true] });
  expect(thrown(() => configFromManifest(bad, { ...at, envVars: { TOKEN: 'hunter2-value' } })).message).not.toContain('hunter2');
});

test('configFromManifest: the configuration starts the daemon of the specification', async () => {
  fs.copyFileSync(path.join(DAEMONS, 'specification.py'), path.join(world.pluginPath, 'daemon.py'));
  const folder = world.makeFolder('search-plugin');
  fs.mkdirSync(path.join(folder, 'bin'));
  fs.symlinkSync(PYTHON, path.join(folder, 'bin', 'python3'));
  fs.writeFileSync(path.join(folder, '.installed'), '');

  const manager = world.manager();
  const config = configFromManifest(manifest(), { pluginPath: world.pluginPath, envsDir: world.envsDir });
  await manager.startProcess(config);
  expect(manager.isRunning('search-plugin')).toBe(true);
  expect(await connects(config.socketPath)).toBe(true);
  expect(manager.getProcessInfo('search-plugin').config).toEqual(config);
});
