'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { PYTHON } = require('../helpers/python');
const { useWorld } = require('../helpers/use-world');
const { useRefusal } = require('./refusal');

const world = useWorld();
const { refusal } = useRefusal(world);

test(".installed: ERR_SPAWN says that the plugin's environment is not installed", async () => {
  const command = path.join(world.folder('plugin'), 'bin', 'python3');
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).toMatch(/not installed/);
  expect(message).toContain('ENOENT');
});

test('.installed: ERR_SPAWN in an installed environment names the missing command only', async () => {
  const command = path.join(world.makeFolder('plugin'), 'bin', 'python3');
  fs.writeFileSync(path.join(world.folder('plugin'), '.installed'), '');
  const message = await refusal(world.manager(), { command });
  expect(message).toContain(command);
  expect(message).not.toMatch(/not installed/);
});

test('.installed: its absence is named for a script whose interpreter is missing', async () => {
  const command = path.join(world.makeFolder('plugin'), 'bin', 'tool');
  fs.mkdirSync(path.dirname(command));
  fs.writeFileSync(command, `#!${path.join(world.folder('plugin'), 'bin', 'python3')}\n`, { mode: 0o755 });
  const message = await refusal(world.manager(), { command });
  expect(message).toMatch(/ENOENT: .*interpreter/);
  expect(message).toContain(command);
  expect(message).toMatch(/not installed/);
  // The file .installed alone decides.
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
])('.installed: its absence is found through %s', async (_, make) => {
  fs.mkdirSync(world.envsDir, { mode: 0o700 });
  fs.symlinkSync(world.envsDir, world.path('link'));
  const { envsDir = world.envsDir, ...changes } = make();
  const message = await refusal(world.manager({ envsDir }), { command: path.join(world.folder('plugin'), 'bin', 'python3'), ...changes });
  expect(message).toContain('ENOENT');
  expect(message).toMatch(/not installed/);
  expect(message).toContain('.installed');
});

test(".installed: a command outside the plugin's folder is not judged by it", async () => {
  expect(await refusal(world.manager(), { command: world.path('bin', 'python3') })).not.toMatch(/not installed/);
});

test(".installed: an installed environment's python3 runs the daemon", async () => {
  const folder = world.makeFolder('plugin');
  fs.mkdirSync(path.join(folder, 'bin'));
  fs.symlinkSync(PYTHON, path.join(folder, 'bin', 'python3'));
  fs.writeFileSync(path.join(folder, '.installed'), '');
  const manager = world.manager();
  await manager.startProcess({ ...world.config('plugin'), command: path.join(folder, 'bin', 'python3') });
  expect(manager.isRunning('plugin')).toBe(true);
});
