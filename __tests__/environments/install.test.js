'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { BackgroundProcessManager, PluginEnvironmentManager, configFromManifest } = require('../..');
const { TOOLS, testWith } = require('../helpers/needs');
const { script } = require('../helpers/world');
const { useWorld } = require('../helpers/use-world');
const { useEnvironments, wheel } = require('./environments');

const world = useWorld();
const { environments, fakePython, hasMarker, marker, program, source } = useEnvironments(world);
const requirements = { file: 'requirements.txt' };

/** Real installers on a busy machine. */
const SLOW = 180_000;

test(
  'ensureDependencies: python3 -m venv and pip install, and the daemon runs in the environment',
  async () => {
    // uv may be there: this test is about the other way.
    const folders = process.env.PATH.split(path.delimiter);
    world.setEnvironment({ PATH: folders.filter((folder) => !fs.existsSync(path.join(folder, 'uv'))).join(path.delimiter) });
    source('requirements.txt', `${wheel(world.pluginPath, 'answer')}\n`);
    const { manager, entries, lines } = environments();
    expect(await manager.isReady('plugin')).toBe(false);
    expect(manager.getPythonPath('plugin')).toBe('python3');
    expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
    expect(await manager.isReady('plugin')).toBe(true);
    expect(marker()).toEqual({ name: 'plugin', status: 'ready', installed_at: expect.any(String) });
    expect(Math.abs(Date.now() - new Date(marker().installed_at).getTime())).toBeLessThan(SLOW);
    expect(fs.statSync(path.join(world.folder('plugin'), '.installed')).mode & 0o777).toBe(0o600);
    expect(fs.statSync(world.folder('plugin')).mode & 0o777).toBe(0o700);

    const python = manager.getPythonPath('plugin');
    expect(python).toBe(path.join(world.folder('plugin'), 'bin', 'python3'));
    expect(execFileSync(python, ['-c', 'import answer; print(answer.VALUE)'], { encoding: 'utf8' })).toBe('42\n');

    expect(lines.some((line) => /^plugin: Successfully installed answer/.test(line))).toBe(true);
    expect(entries.filter(({ level }) => level === 'debug').map(({ text }) => text)).toEqual(lines);
    expect(entries.filter(({ level }) => level !== 'debug').map(({ level, text }) => `${level} ${text}`)).toEqual([
      "info installing the environment of 'plugin' (python3)",
      expect.stringMatching(/^info installed the environment of 'plugin' in \d+ ms$/),
    ]);
    expect(entries[0]).toMatchObject({ pluginName: 'plugin', runtime: 'python3' });

    const daemons = world.manager();
    const manifest = { name: 'plugin', daemon: { command: 'python3', args: script('serves.py') } };
    await daemons.startProcess(configFromManifest(manifest, { pluginPath: world.pluginPath, envsDir: world.envsDir }));
    expect(daemons.isRunning('plugin')).toBe(true);
  },
  SLOW,
);

testWith('uv')(
  'ensureDependencies: uv venv and uv pip install, where uv is in PATH, keep the lock of a daemon',
  async () => {
    world.setEnvironment({ PATH: `${path.join(TOOLS, 'bin')}:${process.env.PATH}`, UV_VENV_CLEAR: '1' });
    source('requirements.txt', `${wheel(world.pluginPath, 'answer')}\n`);
    fs.writeFileSync(path.join(world.makeFolder('plugin'), 'daemon.lock'), 'held');
    const { manager, lines } = environments();
    expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
    expect(lines.join('\n')).toMatch(/Creating virtual environment[\s\S]*Installed 1 package/);
    expect(execFileSync(manager.getPythonPath('plugin'), ['-c', 'import answer; print(answer.VALUE)'], { encoding: 'utf8' })).toBe('42\n');
    expect(fs.readFileSync(path.join(world.folder('plugin'), 'daemon.lock'), 'utf8')).toBe('held');
  },
  SLOW,
);

test(
  'ensureDependencies: npm install, with a relative file: dependency, and without the scripts of the plugin',
  async () => {
    source('lib/package.json', '{ "name": "answer", "version": "1.0.0", "main": "index.js" }');
    source('lib/index.js', 'module.exports = 42;');
    source('.npmrc', 'offline=true\n');
    source('package.json', '{ "dependencies": { "answer": "file:./lib" }, "scripts": { "install": "exit 1" } }');
    const { manager } = environments();
    expect(await manager.ensureDependencies('plugin', world.pluginPath, 'node', { file: 'package.json' })).toBe(true);
    const modules = manager.getNodeModulesPath('plugin');
    expect(modules).toBe(path.join(manager.getEnvPath('plugin'), 'node_modules'));
    const env = { ...process.env, NODE_PATH: modules };
    expect(execFileSync(process.execPath, ['-p', "require('answer')"], { cwd: '/', env, encoding: 'utf8' })).toBe('42\n');
    expect(fs.existsSync(path.join(world.pluginPath, 'node_modules'))).toBe(false);
  },
  SLOW,
);

test('ensureDependencies: a ready environment is not made again', async () => {
  const calls = fakePython();
  source('requirements.txt', '');
  const { manager } = environments();
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
  const [venv, pip, ...others] = calls();
  expect([venv, pip, others]).toEqual([
    `python3 -m venv ${world.folder('plugin')}`,
    `python3 -m pip install -r ${path.join(world.pluginPath, 'requirements.txt')}`,
    [],
  ]);
  const before = marker();
  expect(await environments().manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
  expect(calls()).toHaveLength(2);
  expect(marker()).toEqual(before);
});

test('ensureDependencies: the marker of Ally is understood, and an empty one is none', async () => {
  const calls = fakePython();
  const file = path.join(world.makeFolder('plugin'), '.installed');
  fs.writeFileSync(file, JSON.stringify({ name: 'plugin', status: 'ready', installed_at: '2025-01-01T00:00:00.000Z' }));
  const { manager } = environments();
  expect(await manager.isReady('plugin')).toBe(true);
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
  expect(calls()).toEqual([]);
  for (const text of ['', 'null', '{', '{"status":"error"}']) {
    fs.writeFileSync(file, text);
    expect(await manager.isReady('plugin')).toBe(false);
  }
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
  expect(calls()).toHaveLength(1);
});

test("ensureDependencies: an environment whose Python is gone is made again, without the earlier one's packages", async () => {
  const calls = fakePython();
  const { manager } = environments();
  const ask = () => manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements);
  expect(await ask()).toBe(true);
  fs.rmSync(path.join(world.folder('plugin'), 'bin', 'python3'));
  fs.symlinkSync('/no/such/python3', path.join(world.folder('plugin'), 'bin', 'python3'));
  fs.mkdirSync(path.join(world.folder('plugin'), 'lib', 'half-a-package'), { recursive: true });
  fs.writeFileSync(path.join(world.folder('plugin'), 'data.json'), '{}');
  expect(await manager.isReady('plugin')).toBe(false);
  expect(await ask()).toBe(true);
  expect(calls()).toHaveLength(2);
  expect(fs.readdirSync(world.folder('plugin')).sort()).toEqual(['.installed', 'bin', 'data.json', 'pyvenv.cfg']);
});

test('ensureDependencies: without the file of the dependencies only the environment is made, with a warning', async () => {
  const calls = fakePython();
  const { manager, entries } = environments();
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
  expect(calls()).toEqual([`python3 -m venv ${world.folder('plugin')}`]);
  expect(entries.filter(({ level }) => level === 'warn').map(({ text }) => text)).toEqual([
    `the environment of 'plugin': ${path.join(world.pluginPath, 'requirements.txt')} does not exist: no package is installed`,
  ]);
});

test.each([
  ['{pip} install x', 'pip install x'],
  ['"{pip}" install x', 'pip install x'],
  ["'{pip}' install x", 'pip install x'],
  ['pip install x', 'pip install x'],
  ['python3 -c "a b"', 'python3 -c a b'],
  ['"$VIRTUAL_ENV/bin/pip" \\"{envPath}', 'pip "ENVIRONMENT'],
])('install_command: %s runs in the folder of the plugin, also where paths contain spaces and quotes', async (command, call) => {
  const calls = fakePython();
  const name = `it's "a" $(plugin)`;
  const { manager } = environments();
  const dependencies = { file: 'requirements.txt', install_command: `${command} && pwd > ${world.path('folder')}` };
  expect(await manager.ensureDependencies(name, world.pluginPath, 'python3', dependencies)).toBe(true);
  expect(calls()[1]).toBe(call.replace('ENVIRONMENT', world.folder(name)));
  expect(fs.readFileSync(world.path('folder'), 'utf8').trim()).toBe(world.pluginPath);
  expect(marker(name).name).toBe(name);
});

test('install_command: null, as a manifest writes it, is none', async () => {
  const calls = fakePython();
  source('requirements.txt', '');
  const { manager } = environments();
  const dependencies = { file: 'requirements.txt', install_command: null };
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', dependencies)).toBe(true);
  expect(calls()).toHaveLength(2);
});

test("install_command of a 'node' plugin finds the package.json in {envPath}", async () => {
  source('package.json', '{ "name": "p" }');
  source('package-lock.json', '{ "lockfileVersion": 3 }');
  const { manager } = environments();
  const dependencies = { file: 'package.json', install_command: 'cat {envPath}/package.json {envPath}/package-lock.json > seen' };
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'node', dependencies)).toBe(true);
  expect(fs.readFileSync(path.join(world.pluginPath, 'seen'), 'utf8').replace(/\s/g, '')).toBe('{"name":"p"}{"lockfileVersion":3}');
});

test("install_command of a 'node' plugin: a file that is no JSON is not taken for a package.json", async () => {
  source('pnpm-lock.yaml', 'lockfileVersion: 9\n');
  const { manager } = environments();
  const dependencies = { file: 'pnpm-lock.yaml', install_command: 'true' };
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'node', dependencies)).toBe(true);
  expect(fs.readdirSync(world.folder('plugin'))).toEqual(['.installed']);
});

test('ensureDependencies: variables that would install elsewhere do not reach the installer', async () => {
  fakePython();
  const set = { PIP_TARGET: '/elsewhere', PIP_PREFIX: '/elsewhere', PIP_USER: '1', PYTHONPATH: '/elsewhere', PYTHONHOME: '/elsewhere' };
  world.setEnvironment({ ...set, HTTPS_PROXY: 'kept', SOCKET_PATH: '/mine' });
  const { manager, lines } = environments();
  await manager.ensureDependencies('plugin', world.pluginPath, 'python3', { file: 'x', install_command: 'env' });
  const variables = lines.map((line) => line.replace('plugin: ', ''));
  expect(variables.filter((line) => line.includes('elsewhere'))).toEqual([]);
  expect(variables).toEqual(expect.arrayContaining(['PIP_USER=0', 'HTTPS_PROXY=kept', `VIRTUAL_ENV=${world.folder('plugin')}`]));
  expect(variables.some((line) => line.startsWith('SOCKET_PATH'))).toBe(false);
});

test('ensureDependencies: a daemon in the folder keeps its lock, record and socket, and runs on', async () => {
  fakePython();
  const daemons = world.manager();
  await daemons.startProcess(world.config());
  const files = ['daemon.lock', 'daemon.pid', 'daemon.id', 'daemon.sock'];
  const state = () => files.map((name) => fs.statSync(path.join(world.folder('plugin'), name)).ino);
  const before = state();
  const { manager } = environments();
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
  expect(state()).toEqual(before);
  await manager.removeEnvironment('plugin');
  expect(state()).toEqual(before);
  expect(fs.readdirSync(world.folder('plugin')).sort()).toEqual([...files].sort());
  expect(daemons.isRunning('plugin')).toBe(true);
  await daemons.stopProcess('plugin');
  expect(daemons.getProcessInfo('plugin').lastExit.reason).toBe('stopped');
});

test('removeEnvironment: removes the folder where no daemon was, and resolves where there is none', async () => {
  fakePython();
  const { manager, entries } = environments();
  await manager.removeEnvironment('plugin');
  expect(fs.existsSync(world.envsDir)).toBe(false);
  await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements);
  source('../envs/plugin/data/deep/file', '');
  fs.symlinkSync(world.pluginPath, path.join(world.folder('plugin'), 'link'));
  await manager.removeEnvironment('plugin');
  expect(fs.existsSync(world.folder('plugin'))).toBe(false);
  expect(fs.existsSync(world.pluginPath)).toBe(true);
  expect(entries.at(-1)).toMatchObject({ level: 'info', text: "removed the environment of 'plugin'", pluginName: 'plugin' });
  expect(await manager.isReady('plugin')).toBe(false);
});

test('installers are no daemons: no event, no diagnostics channel, no process that the list of a manager has', async () => {
  fakePython();
  const { subscribe, unsubscribe } = require('node:diagnostics_channel');
  const heard = [];
  const hear = (_, name) => heard.push(name);
  const channels = ['ally:daemon:state', 'ally:daemon:exit', 'tracing:ally:daemon:start:start', 'tracing:ally:daemon:stop:start'];
  for (const name of channels) subscribe(name, hear);
  world.finally(() => {
    for (const name of channels) unsubscribe(name, hear);
  });
  await environments().manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements);
  expect(heard).toEqual([]);
  expect(new BackgroundProcessManager({ envsDir: world.envsDir }).listProcesses()).toEqual([]);
});

test('a class can extend PluginEnvironmentManager', async () => {
  fakePython();
  class Profiled extends PluginEnvironmentManager {
    getPythonPath(name) {
      return `${super.getPythonPath(name)} of ${name}`;
    }
  }
  const manager = new Profiled({ envsDir: world.envsDir });
  expect(manager).toBeInstanceOf(PluginEnvironmentManager);
  expect(manager.getPythonPath('plugin')).toBe('python3 of plugin');
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'python3', requirements)).toBe(true);
  expect(hasMarker()).toBe(true);
});

test('ensureDependencies: an onProgress and a logger that throw disturb no installation', async () => {
  fakePython();
  program('node-that-throws', '');
  const text = `
    const { PluginEnvironmentManager } = require(${JSON.stringify(path.join(__dirname, '..', '..'))});
    let thrown = 0;
    process.on('uncaughtException', () => thrown++);
    const fail = () => { throw new Error('mine'); };
    const logger = { debug: fail, info: fail, warn: fail, error: fail };
    new PluginEnvironmentManager({ envsDir: ${JSON.stringify(world.envsDir)}, logger, onProgress: fail })
      .ensureDependencies('plugin', ${JSON.stringify(world.pluginPath)}, 'python3', { file: 'x', install_command: 'echo line' })
      .then((ready) => setImmediate(() => console.log(ready, thrown)));`;
  expect(execFileSync(process.execPath, ['-e', text], { encoding: 'utf8' })).toMatch(/^true [1-9]/);
  expect(marker().status).toBe('ready');
});
