'use strict';

const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { failure } = require('../helpers/promises');
const { useWorld } = require('../helpers/use-world');
const exported = require('../..');

const { PLUGIN_ENVS_DIR } = exported;
const world = useWorld();
const health = { interval: 1_000, timeout: 1_000, retries: 3 };

test("readiness 'output' is refused as a health check for good", async () => {
  const probe = { type: 'output', pattern: 'ready' };
  const error = await failure(world.manager().startProcess({ ...world.config(), healthcheck: { ...health, probe } }));
  expect(error.message).toContain('healthcheck.probe.type must be one of ');
  expect(error.message).not.toContain("'output'");
});

test('what this version does anyway may be said', async () => {
  const manager = world.manager();
  const same = { start: 'eager', shared: false, inheritEnv: true, socket: 'daemon', killMode: 'tree' };
  await manager.startProcess({ ...world.config(), ...same });
  expect(manager.getProcessInfo('plugin').config).toMatchObject(same);
  await manager.stopProcess('plugin', { everywhere: false });
  expect(manager.getState('plugin')).toBe('stopped');
});

test('everywhere must be a boolean, and changes nothing for an exclusive plugin', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const mistyped = await failure(manager.stopProcess('plugin', { everywhere: 'yes' }));
  expect(mistyped.message).toContain('options.everywhere must be a boolean');
  expect(mistyped).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(manager.isRunning('plugin')).toBe(true);
  await manager.stopProcess('plugin', { everywhere: true });
  expect(manager.getState('plugin')).toBe('stopped');
});

describe('PLUGIN_ENVS_DIR', () => {
  /** What the constant is in a program of its own, with this HOME. */
  const inProgram = (home) => {
    const { HOME: _, ...env } = process.env;
    if (home !== undefined) env.HOME = home;
    const code = `process.stdout.write(require(${JSON.stringify(path.join(__dirname, '..', '..'))}).PLUGIN_ENVS_DIR)`;
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', code], { env, encoding: 'utf8' });
    expect(stderr).toBe('');
    return stdout;
  };

  test('is below HOME, as it was when the package was loaded', () => {
    expect(typeof PLUGIN_ENVS_DIR).toBe('string');
    expect(inProgram('/home/of-the-test')).toBe('/home/of-the-test/.ally/plugin-envs');
  });

  test.each([
    ['not set', undefined],
    ['empty', ''],
    ['relative', 'home'],
  ])('loading does not fail where HOME is %s', (_, home) => {
    const folder = inProgram(home);
    expect(path.isAbsolute(folder)).toBe(true);
    expect(folder).toMatch(/\/\.ally\/plugin-envs$/);
  });
});

test('the exports have the names that import sees', () => {
  const index = path.join(__dirname, '..', '..', 'index.js');
  const code = `console.log(Object.keys(await import(${JSON.stringify(index)})).sort().join())`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
  const names = stdout
    .trim()
    .split(',')
    .filter((name) => name !== 'default' && name !== 'module.exports');
  expect(names).toEqual(Object.keys(exported).sort());
  expect(names).toEqual([
    'BackgroundProcessManager',
    'PLUGIN_ENVS_DIR',
    'PLUGIN_TIMEOUTS',
    'PluginEnvironmentManager',
    'ProcessState',
    'configFromManifest',
  ]);
});
