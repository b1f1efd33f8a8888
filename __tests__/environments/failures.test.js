'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { spawn, spawnSync } = require('node:child_process');
const { PluginEnvironmentManager } = require('../..');
const scripts = require('../../lib/environments/scripts.js');
const { environment, withEnvironment } = require('../helpers/proc');
const { failure, thrown, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { asker, untilFile, useEnvironments } = require('./environments');

const world = useWorld();
const { environments, fakePython, hasMarker, marker, program } = useEnvironments(world);

const command = (install_command) => ({ file: 'requirements.txt', install_command });
const ask = ({ manager }, install_command, options) =>
  manager.ensureDependencies('plugin', world.pluginPath, 'python3', command(install_command), options);
/** The processes of installers that this test has made. */
const installers = () => withEnvironment(world.dir).filter(({ pid }) => environment(pid).get('ALLY_PLUGIN_NAME') === 'plugin');

test.each([
  ['pluginName', ['../evil', '/p', 'python3', { file: 'x' }]],
  ['pluginName', ['.ally-install', '/p', 'python3', { file: 'x' }]],
  ['pluginName', [7, '/p', 'python3', { file: 'x' }]],
  ['pluginPath', ['plugin', 'relative', 'python3', { file: 'x' }]],
  ['runtime', ['plugin', '/p', 'ruby', { file: 'x' }]],
  ['runtime', ['plugin', '/p', undefined, { file: 'x' }]],
  ['dependencies', ['plugin', '/p', 'python3', undefined]],
  ['dependencies', ['plugin', '/p', 'python3', null]],
  ['dependencies.file', ['plugin', '/p', 'python3', {}]],
  ['dependencies.file', ['plugin', '/p', 'python3', { file: '' }]],
  ['dependencies.file', ['plugin', '/p', 'python3', { file: 'a\0b' }]],
  ['dependencies.install_command', ['plugin', '/p', 'python3', { file: 'x', install_command: 7 }]],
  ['dependencies.install_command', ['plugin', '/p', 'python3', { file: 'x', install_command: '' }]],
  ['options', ['plugin', '/p', 'python3', { file: 'x' }, 7]],
  ['options.signal', ['plugin', '/p', 'python3', { file: 'x' }, { signal: {} }]],
])('ERR_INVALID_CONFIG: ensureDependencies refuses a wrong %s: %j, and changes nothing', async (field, args) => {
  const error = await failure(environments().manager.ensureDependencies(...args));
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toMatch(new RegExp(`: ${field} `));
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test.each([
  ['envsDir', { envsDir: 'relative' }],
  ['logger', { logger: {} }],
  ['onProgress', { onProgress: 'yes' }],
  ['guardianPath', { guardianPath: 'relative' }],
  ['envDir', { envDir: '/x' }],
  ['options', 7],
  ['options', null],
])('ERR_INVALID_CONFIG: the constructor refuses a wrong %s: %j', (field, options) => {
  const error = thrown(() => new PluginEnvironmentManager(options));
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toContain(`: ${field} `);
});

test('ERR_INVALID_CONFIG: the other methods refuse a wrong name', async () => {
  const { manager } = environments();
  for (const name of ['..', '', undefined, 'a/b']) {
    for (const method of ['getPythonPath', 'getNodeModulesPath', 'getEnvPath'])
      expect(thrown(() => manager[method](name)).code).toBe('ERR_INVALID_CONFIG');
    for (const method of ['isReady', 'removeEnvironment']) expect((await failure(manager[method](name))).code).toBe('ERR_INVALID_CONFIG');
  }
});

test('the default of envsDir is below the HOME of the construction', () => {
  world.setEnvironment({ HOME: '/home/of-the-test' });
  expect(new PluginEnvironmentManager().getEnvPath('plugin')).toBe('/home/of-the-test/.ally/plugin-envs/plugin');
});

test('a failed installer: false, an error entry with code, exit code and last lines, and a marker that is tried again', async () => {
  const calls = fakePython();
  const all = environments();
  expect(await ask(all, 'echo first; echo "no \u001b[31msuch package" >&2; exit 3')).toBe(false);
  const entry = all.entries.find(({ level }) => level === 'error');
  expect(entry).toMatchObject({ pluginName: 'plugin', code: 'ERR_STARTUP_EXIT', exitCode: 3 });
  expect(entry.stderr.split('\n')).toEqual(['first', 'no \u001b[31msuch package', 'install_command failed with exit code 3']);
  expect(entry.text).toBe(
    "Failed to install the environment of 'plugin': the installer exited with code 3: first\n  no such package\n  install_command failed with exit code 3",
  );
  expect(marker()).toEqual({ name: 'plugin', status: 'error', error: entry.text, installed_at: expect.any(String) });
  expect(await all.manager.isReady('plugin')).toBe(false);
  expect(await ask(all, 'true')).toBe(true);
  expect(marker().status).toBe('ready');
  expect(calls().filter((call) => call.includes('venv'))).toHaveLength(2);
});

test.each([
  ['python3', 'python3'],
  ['npm', 'node'],
])('ERR_SPAWN: %s is not in PATH', async (name, runtime) => {
  fs.writeFileSync(path.join(world.pluginPath, 'package.json'), '{}');
  const all = environments();
  world.setEnvironment({ PATH: '/no/such/folder' });
  expect(await all.manager.ensureDependencies('plugin', world.pluginPath, runtime, { file: 'package.json' })).toBe(false);
  expect(all.entries.find(({ level }) => level === 'error')).toMatchObject({
    text: `Failed to install the environment of 'plugin': ENOENT: program ${name} not found in PATH`,
    code: 'ERR_SPAWN',
    errno: 'ENOENT',
    path: name,
  });
  expect(marker()).toMatchObject({ status: 'error', error: expect.stringContaining(`program ${name} not found`) });
});

test("a 'node' plugin without package.json needs no npm", async () => {
  const { manager } = environments();
  world.setEnvironment({ PATH: '/no/such/folder' });
  expect(await manager.ensureDependencies('plugin', world.pluginPath, 'node', { file: 'package.json' })).toBe(true);
});

test('ERR_SPAWN: the folder of the plugin is missing', async () => {
  fakePython();
  const all = environments();
  expect(await all.manager.ensureDependencies('plugin', world.path('gone'), 'python3', { file: 'x' })).toBe(false);
  const entry = all.entries.find(({ level }) => level === 'error');
  expect(entry).toMatchObject({ code: 'ERR_SPAWN', errno: 'ENOENT', path: world.path('gone') });
  expect(entry.text).toBe(`Failed to install the environment of 'plugin': ENOENT: plugin folder ${world.path('gone')} not found`);
});

test('an installer that exits with code 0 and leaves no Python has failed', async () => {
  program('python3', 'mkdir -p "$3" && : > "$3/pyvenv.cfg"');
  const all = environments();
  expect(await ask(all, 'true')).toBe(false);
  expect(all.entries.at(-1)).toMatchObject({
    level: 'error',
    code: 'ERR_STARTUP_EXIT',
    text: expect.stringContaining('the look for bin/python3 failed with exit code 1'),
  });
  expect(marker().status).toBe('error');
});

test('ERR_IO: a file in the place of a folder, and a symlink, are not followed', async () => {
  fakePython();
  fs.writeFileSync(world.path('file'), '');
  const below = environments({ envsDir: path.join(world.path('file'), 'envs') });
  expect(await ask(below, 'true')).toBe(false);
  expect(below.entries.at(-1)).toMatchObject({ level: 'error', code: 'ERR_IO', errno: 'ENOTDIR' });
  fs.mkdirSync(world.envsDir);
  fs.symlinkSync(world.pluginPath, world.folder('plugin'));
  const linked = environments();
  expect(await ask(linked, 'true')).toBe(false);
  expect(linked.entries.at(-1)).toMatchObject({ level: 'error', code: 'ERR_IO', errno: 'ELOOP', path: world.folder('plugin') });
  expect(fs.readdirSync(world.pluginPath)).toEqual([]);
  expect(await failure(linked.manager.removeEnvironment('plugin'))).toMatchObject({ code: 'ERR_IO', errno: 'ELOOP', pluginName: 'plugin' });
  expect(fs.existsSync(world.pluginPath)).toBe(true);
});

test('ERR_IO: removeEnvironment rejects if a file can not be removed, and the marker is gone', async () => {
  fakePython();
  const { manager } = environments();
  await manager.ensureDependencies('plugin', world.pluginPath, 'python3', { file: 'x' });
  program('find', 'echo "find: cannot delete x: Operation not permitted" >&2; exit 1');
  expect(await failure(manager.removeEnvironment('plugin'))).toMatchObject({
    code: 'ERR_IO',
    path: world.folder('plugin'),
    pluginName: 'plugin',
    stderr: expect.stringContaining('Operation not permitted'),
    message: expect.stringMatching(/^Failed to remove the environment of 'plugin': .*Operation not permitted/),
  });
  expect(await manager.isReady('plugin')).toBe(false);
});

test('signal: an abort ends the whole tree of a stubborn installer, and no marker stays', async () => {
  fakePython();
  const all = environments();
  const controller = new AbortController();
  // It ignores SIGTERM, and has a child in a POSIX session of its own that does so too.
  const stubborn = `trap '' TERM; setsid sh -c "trap '' TERM; : > ${world.path('begun')}; sleep 60 & wait" & sleep 60 & wait; wait`;
  const promise = ask(all, stubborn, { signal: controller.signal });
  const outcome = failure(promise);
  await untilFile(world.path('begun'));
  expect(installers().length).toBeGreaterThan(2);
  const reason = new Error('mine');
  controller.abort(reason);
  expect(await outcome).toBe(reason);
  expect(installers()).toEqual([]);
  expect(hasMarker()).toBe(false);
  expect(await all.manager.isReady('plugin')).toBe(false);
  expect(all.entries.filter(({ level }) => level === 'error')).toEqual([]);
  expect(await ask(all, 'true')).toBe(true);
});

test('signal: one that is aborted already starts nothing', async () => {
  const calls = fakePython();
  const reason = new Error('mine');
  expect(await failure(ask(environments(), 'true', { signal: AbortSignal.abort(reason) }))).toBe(reason);
  expect(calls()).toEqual([]);
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

/** A script by itself, as it runs when it has got the lock. */
const runScript = (script, ...args) => spawnSync('/bin/sh', ['-c', script, 'sh', world.folder('plugin'), ...args], { encoding: 'utf8' });

test.each(['NODE', 'PYTHON', 'FAIL'])('script %s: an environment that another process has made before the lock was free stays', (name) => {
  const other = JSON.stringify({ name: 'plugin', status: 'ready', installed_at: 'now' }, null, 2);
  const file = path.join(world.makeFolder('plugin'), '.installed');
  const mine = JSON.stringify({ name: 'plugin', status: 'error' }, null, 2);
  const rest = { NODE: ['"plugin"', '', '', '/', 'true'], PYTHON: ['"plugin"', '/bin/false', 'python3', '', ''], FAIL: [mine] }[name];
  fs.writeFileSync(file, other);
  expect(runScript(scripts[name], '', ...rest).status).toBe(0);
  expect(fs.readFileSync(file, 'utf8')).toBe(other);
  // The marker that the caller has seen is one to replace.
  expect(runScript(scripts[name], other, ...rest).status).toBe(name === 'PYTHON' ? 1 : 0);
  expect(fs.existsSync(file) && fs.readFileSync(file, 'utf8')).not.toBe(other);
});

describe('two that ask at once', () => {
  const once = () => `echo made >> ${world.path('made')}; while [ ! -e ${world.path('go')} ]; do sleep 0.02; done`;
  const made = () => fs.readFileSync(world.path('made'), 'utf8').trim().split('\n').length;
  const go = () => fs.writeFileSync(world.path('go'), '');

  test('in one process: the environment is made once, and each gets each line once', async () => {
    fakePython();
    const [one, two] = [environments(), environments()];
    const promises = [ask(one, once()), ask(one, once()), ask(two, once())];
    await untilFile(world.path('made'));
    promises.push(ask(two, `${once()}`));
    go();
    expect(await Promise.all(promises)).toEqual([true, true, true, true]);
    expect(made()).toBe(1);
    // The one that came second may have come after the line.
    const told = [one, two].map(({ entries }) => entries.filter(({ text }) => text.startsWith('installing')).length).sort();
    expect([
      [0, 1],
      [1, 1],
    ]).toContainEqual(told);
  });

  test('in one process: an abort of one leaves it to the other, and an abort of both ends it', async () => {
    fakePython();
    const all = environments();
    const controllers = [new AbortController(), new AbortController()];
    const promises = controllers.map(({ signal }) => watch(ask(all, once(), { signal })));
    await untilFile(world.path('made'));
    controllers[0].abort(new Error('one'));
    await until(() => promises[0].settled);
    expect(promises[0].error.message).toBe('one');
    expect(promises[1].settled).toBe(false);
    expect(installers()).not.toEqual([]);
    controllers[1].abort(new Error('two'));
    await until(() => promises[1].settled, 15_000);
    expect(promises[1].error.message).toBe('two');
    expect(installers()).toEqual([]);
  });

  test('in one process: another request waits, and is tried if the first fails', async () => {
    fakePython();
    const all = environments();
    const first = ask(all, `${once()}; exit 1`);
    await untilFile(world.path('made'));
    const second = ask(all, 'true');
    go();
    expect(await Promise.all([first, second])).toEqual([false, true]);
    expect(marker().status).toBe('ready');
  });

  test('in two processes: the environment is made once', async () => {
    fakePython();
    const args = ['plugin', world.pluginPath, 'python3', command(once())];
    const programs = [1, 2, 3].map(() => {
      const child = spawn(process.execPath, ['-e', asker(world, args)], { env: { ...process.env, TEST_WORLD: world.dir } });
      world.programs.push(child);
      let text = '';
      child.stdout.on('data', (data) => (text += data));
      return { child, output: () => text };
    });
    await untilFile(world.path('made'));
    const all = environments();
    const mine = ask(all, once());
    await until(() => all.entries.some(({ text }) => text.includes('waiting')));
    go();
    expect(await mine).toBe(true);
    await until(() => programs.every(({ output }) => output().includes('outcome true')), 20_000);
    expect(made()).toBe(1);
  });

  test('kill -9 of the program in the middle ends its installer, and who waits makes the environment', async () => {
    fakePython();
    const args = ['plugin', world.pluginPath, 'python3', command(`echo $$ > ${world.path('pid')}; sleep 60; : > ${world.path('late')}`)];
    const child = spawn(process.execPath, ['-e', asker(world, args)], { env: { ...process.env, TEST_WORLD: world.dir }, stdio: 'ignore' });
    world.programs.push(child);
    await untilFile(world.path('pid'));
    const all = environments();
    const mine = watch(ask(all, 'true'));
    await until(() => all.entries.some(({ pid }) => pid === child.pid));
    expect(mine.settled).toBe(false);
    child.kill('SIGKILL');
    await until(() => mine.settled, 15_000);
    expect(mine.value).toBe(true);
    expect(installers()).toEqual([]);
    expect(marker().status).toBe('ready');
    expect(fs.existsSync(world.path('late'))).toBe(false);
  });

  test('kill -9 of a step leaves an error, and the next one begins anew', async () => {
    fakePython();
    program('pip-that-dies', 'kill -9 $$');
    const all = environments();
    expect(await ask(all, 'pip-that-dies')).toBe(false);
    expect(all.entries.at(-1)).toMatchObject({ level: 'error', code: 'ERR_STARTUP_EXIT', exitCode: 137 });
    expect(await ask(all, 'true')).toBe(true);
  });
});
