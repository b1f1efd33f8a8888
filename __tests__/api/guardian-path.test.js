'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { BackgroundProcessManager, PluginEnvironmentManager } = require('../..');
const { children, program } = require('../helpers/proc');
const { PYTHON } = require('../helpers/python');
const { failure, thrown } = require('../helpers/promises');
const { ROOT, testOnLinux } = require('../helpers/needs');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const built = path.join(ROOT, 'prebuilt', `${process.platform}-${process.arch}`, 'ally-guardian');

/** A copy of the guardian under another name. */
function copied(name = 'a guardian') {
  fs.copyFileSync(built, world.path(name));
  return world.path(name);
}

/** What the children of this process execute. */
const programs = () => children(process.pid).map(({ pid }) => program(pid));

test.each([
  ['', 'must not be empty'],
  ['ally-guardian', 'must be an absolute path'],
  ['./ally-guardian', 'must be an absolute path'],
  ['/opt/a\0b', 'must not contain NUL'],
  [7, 'must be a string, got a number'],
])('guardianPath: %j is refused: %s', (guardianPath, problem) => {
  for (const Class of [BackgroundProcessManager, PluginEnvironmentManager]) {
    const error = thrown(() => new Class({ envsDir: world.envsDir, guardianPath }));
    expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', message: `Invalid configuration: guardianPath ${problem}` });
  }
});

testOnLinux('guardianPath: undefined is the program beside the addon', async () => {
  const manager = world.manager({ guardianPath: undefined });
  await manager.startProcess(world.config());
  expect(programs()).toContain(built);
});

testOnLinux('guardianPath: this program is run in place of the one beside the addon', async () => {
  const guardianPath = copied();
  const manager = world.manager({ guardianPath });
  await manager.startProcess(world.config());
  expect(programs()).toContain(guardianPath);
  expect(manager.isRunning('plugin')).toBe(true);
});

test('guardianPath: PluginEnvironmentManager runs installers with it', async () => {
  const dependencies = { file: 'none', install_command: 'true' };
  const ensure = (guardianPath) =>
    new PluginEnvironmentManager({ envsDir: world.envsDir, guardianPath }).ensureDependencies('p', world.pluginPath, 'node', dependencies);
  expect(await ensure(world.path('missing'))).toBe(false);
  expect(await ensure(copied())).toBe(true);
});

test.each([
  ['missing', () => {}, 'ENOENT'],
  ['not executable', (file) => fs.writeFileSync(file, '', { mode: 0o644 }), 'EACCES'],
  ['a folder', (file) => fs.mkdirSync(file), 'EACCES'],
  [
    'of another build',
    (file) => {
      const program = path.join(__dirname, '..', 'fixtures', 'guardians', 'greets-as-another-build.py');
      fs.writeFileSync(file, `#!/bin/sh\nexec '${PYTHON}' -S -E -B '${program}'\n`, { mode: 0o755 });
    },
    'another build',
  ],
])('guardianPath: one that is %s is ERR_UNSUPPORTED at the start, with its path', async (_, make, says) => {
  const guardianPath = world.path('guardian');
  make(guardianPath);
  const manager = world.manager({ guardianPath });
  const error = await failure(manager.startProcess(world.config()));
  expect(error).toMatchObject({ code: 'ERR_UNSUPPORTED', path: guardianPath, message: expect.stringContaining(says) });
});
