'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { PYTHON, expectNothingLeft, record, script, useWorld } = require('./helpers/world');
const { descendants } = require('./helpers/processes');
const { failure, until } = require('./helpers/until');

const world = useWorld();

/** Fails to start, in every way that it must. */
async function refusal(manager, changes) {
  const config = { ...world.config('plugin'), ...changes };
  const error = await failure(manager.startProcess(config));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_SPAWN', pluginName: 'plugin' });
  expect(error.message).toMatch(/^Failed to start background process 'plugin': /);
  const info = manager.getProcessInfo('plugin');
  expect(info.state).toBe('error');
  expect(info.pid).toBeUndefined();
  expect(info.restartAttempts).toBe(0);
  expect(error.message).toContain(info.lastError);
  expectNothingLeft(world, 'plugin');
  return error.message;
}

test('a program that is not there', async () => {
  const command = world.path('no-such-program');
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toMatch(/ENOENT: .*not found/);
});

test('a bare command that is nowhere in PATH', async () => {
  const message = await refusal(world.manager(), { command: 'no-such-program-anywhere' });
  expect(message).toContain('no-such-program-anywhere');
  expect(message).toContain('ENOENT');
});

test('a directory that is not there', async () => {
  const pluginPath = world.path('no-such-plugin');
  const message = await refusal(world.manager(), { pluginPath });
  expect(message).toContain(pluginPath);
  expect(message).toMatch(/ENOENT: .*not found/);
  expect(message).not.toContain(PYTHON);
});

test('a directory that is a file', async () => {
  const pluginPath = world.path('file');
  fs.writeFileSync(pluginPath, '');
  const message = await refusal(world.manager(), { pluginPath });
  expect(message).toContain(pluginPath);
  expect(message).toContain('ENOTDIR');
});

test('a program that cannot be run', async () => {
  const command = world.path('text');
  fs.writeFileSync(command, '#!/bin/sh\n', { mode: 0o644 });
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toContain('EACCES');
});

test('a folder for a program', async () => {
  const message = await refusal(world.manager(), { command: world.pluginPath });
  expect(message).toContain(world.pluginPath);
  expect(message).toContain('EACCES');
});

test('a file that is no program is not handed to a shell', async () => {
  const command = world.path('not-a-program');
  fs.writeFileSync(command, `: > '${world.path('ran')}'\n`, { mode: 0o755 });
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toContain('ENOEXEC');
  expect(fs.existsSync(world.path('ran'))).toBe(false);
});

test('arguments that are too long for the system', async () => {
  const command = '/bin/true';
  const message = await refusal(world.manager(), { command, args: [`hunter2${'x'.repeat(200_000)}`] });
  expect(message).toContain(command);
  expect(message).toContain('E2BIG');
  expect(message).not.toContain('hunter2');
  expect(message.length).toBeLessThan(1_000);
});

test('a bare command that is in PATH and cannot be run is named with the path that was found', async () => {
  const folder = world.path('bin');
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(folder, 'not-executable'), '#!/bin/sh\n', { mode: 0o644 });
  const message = await refusal(world.manager(), { command: 'not-executable', envVars: { PATH: `/no/such:${folder}:/bin` } });
  expect(message).toContain(path.join(folder, 'not-executable'));
  expect(message).toContain('EACCES');
});

test('a script whose interpreter is not there', async () => {
  const command = world.path('script');
  fs.writeFileSync(command, '#!/no/such/interpreter\n', { mode: 0o755 });
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toContain('ENOENT');
});

test('the three kinds have three messages', async () => {
  const manager = world.manager();
  fs.writeFileSync(world.path('x'), '', { mode: 0o644 });
  // One path for all three, so that nothing but the kind can tell them apart.
  const missing = (await refusal(manager, { command: world.path('missing') })).replaceAll(world.path('missing'), 'PATH');
  const nowhere = (await refusal(manager, { pluginPath: world.path('missing') })).replaceAll(world.path('missing'), 'PATH');
  const barred = (await refusal(manager, { command: world.path('x') })).replaceAll(world.path('x'), 'PATH');
  expect(new Set([missing, nowhere, barred]).size).toBe(3);
});

describe("the plugin's environment", () => {
  test('that is not installed', async () => {
    const command = path.join(world.folder('plugin'), 'bin', 'python3');
    const message = await refusal(world.manager(), { command });
    expect(message).toContain(command);
    expect(message).toMatch(/not installed/);
    expect(message).toContain('ENOENT');
  });

  test('that is installed, without the program', async () => {
    const command = path.join(world.makeFolder('plugin'), 'bin', 'python3');
    fs.writeFileSync(path.join(world.folder('plugin'), '.installed'), '');
    const message = await refusal(world.manager(), { command });
    expect(message).toContain(command);
    expect(message).not.toMatch(/not installed/);
  });

  test('that is not installed, but for a script whose interpreter is missing', async () => {
    const command = path.join(world.makeFolder('plugin'), 'bin', 'tool');
    fs.mkdirSync(path.dirname(command));
    fs.writeFileSync(command, `#!${path.join(world.folder('plugin'), 'bin', 'python3')}\n`, { mode: 0o755 });
    const message = await refusal(world.manager(), { command });
    expect(message).toMatch(/ENOENT: .*interpreter/);
    expect(message).toContain(command);
    expect(message).toMatch(/not installed/);
    // It is told by the marker, and by nothing else.
    fs.writeFileSync(path.join(world.folder('plugin'), '.installed'), '');
    expect(await refusal(world.manager(), { command })).not.toMatch(/not installed/);
  });

  test.each([
    ['an envsDir with .. in it', () => ({ envsDir: `${world.pluginPath}/../envs` })],
    ['a command with .. in it', () => ({ command: `${world.pluginPath}/../envs/plugin/bin/python3` })],
    ['an envsDir that is a link', () => ({ envsDir: world.path('link') })],
    ['a command reached through a link', () => ({ command: path.join(world.path('link'), 'plugin', 'bin', 'python3') })],
    [
      'a bare command with its folder in PATH',
      () => ({ command: 'python3-of-the-plugin', envVars: { PATH: `/no/such:${path.join(world.folder('plugin'), 'bin')}` } }),
    ],
  ])('that is not installed is recognised through %s', async (_, make) => {
    fs.mkdirSync(world.envsDir, { mode: 0o700 });
    fs.symlinkSync(world.envsDir, world.path('link'));
    const { envsDir = world.envsDir, ...changes } = make();
    const message = await refusal(world.manager({ envsDir }), { command: path.join(world.folder('plugin'), 'bin', 'python3'), ...changes });
    expect(message).toContain('ENOENT');
    expect(message).toMatch(/not installed/);
    expect(message).toContain('.installed');
  });

  test("has nothing to do with another folder's program", async () => {
    expect(await refusal(world.manager(), { command: world.path('bin', 'python3') })).not.toMatch(/not installed/);
  });

  test('that is installed is used', async () => {
    const folder = world.makeFolder('plugin');
    fs.mkdirSync(path.join(folder, 'bin'));
    fs.symlinkSync(PYTHON, path.join(folder, 'bin', 'python3'));
    fs.writeFileSync(path.join(folder, '.installed'), '');
    const manager = world.manager();
    await manager.startProcess({ ...world.config('plugin'), command: path.join(folder, 'bin', 'python3') });
    expect(manager.isRunning('plugin')).toBe(true);
  });
});

test('no argument and no variable gets into a message', async () => {
  const secrets = { args: ['hunter2-argument'], envVars: { TOKEN: 'hunter2-value' } };
  const manager = world.manager();
  for (const changes of [{ command: '/no/such' }, { pluginPath: '/no/such' }, { command: '/tmp' }, { command: '/bin/false' }]) {
    const error = await failure(manager.startProcess({ ...world.config('plugin'), ...secrets, ...changes }));
    expect(error.message + error.stack + error.stderr + manager.getProcessInfo('plugin').lastError).not.toContain('hunter2');
  }
});

test('a failed spawn is told in events, and is not restarted', async () => {
  const manager = world.manager();
  const events = record(manager);
  await refusal(manager, { command: '/no/such', restart: { delay: 0 } });
  await until(() => events.states('plugin').length >= 2);
  expect(events.states('plugin')).toEqual(['starting', 'error']);
  expect(events.of('restart')).toEqual([]);
});

test('what failed can be mended and started again', async () => {
  const manager = world.manager();
  await refusal(manager, { command: world.path('later') });
  fs.symlinkSync(PYTHON, world.path('later'));
  await manager.startProcess({ ...world.config('plugin'), command: world.path('later') });
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running' });
  expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
});

test('disturbs no other plugin', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('other', ['willing.py'], { args: script('willing.py') }));
  const pid = manager.getPid('other');
  for (let round = 0; round < 5; round++) await refusal(manager, { command: '/no/such' });
  expect(manager.isRunning('other')).toBe(true);
  expect(manager.getPid('other')).toBe(pid);
  expect(descendants(process.pid).some((process) => process.pid === pid)).toBe(true);
});

describe('out of descriptors', () => {
  // A hard limit, because Node raises the soft one.
  const limited = ['/bin/sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'];

  test.each([
    ['before the first start', false],
    ['beside a running daemon', true],
  ])('says so and goes on, %s', async (_, warm) => {
    const configs = [world.config('one'), world.config('two')];
    const owner = world.owner('out-of-files.js', { configs, warm }, { before: limited });
    const refused = await owner.says('refused');
    if (refused) {
      expect(refused).toMatchObject({ isError: true, pluginName: 'one' });
      expect(refused.message).toContain('EMFILE');
      expect(refused.code).toMatch(/^ERR_(SPAWN|IO)$/);
    } else {
      // Nothing says that a start needs a descriptor of this process; but the first one does.
      expect(warm).toBe(true);
    }
    expect(await owner.says('running')).toBe(true);
    expect(owner.lines.find((line) => 'running' in line).other).toBe(warm);
    expect(await owner.exited).toEqual({ code: 0, signal: null });
  });
});
