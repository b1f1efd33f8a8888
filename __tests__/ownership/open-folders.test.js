'use strict';

// Folders that other users may write in, and folders of other users.

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { SOMEBODY, as, testWith } = require('../helpers/needs');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop } = useCommandedOwner(world);

const mode = (file) => fs.statSync(file).mode & 0o7777;
const warnings = async (owner) => (await owner.asks('records')).value.filter((record) => record.includes('can write in envsDir'));

test.each([
  ['group-writable', 0o775, 1],
  ['world-writable', 0o777, 1],
  ['setgid and group-writable', 0o2775, 1],
  ['setgid', 0o2755, 0],
  ['sticky', 0o1777, 0],
])('envsDir: a folder that is %s is accepted and not changed', async (_, given, count) => {
  fs.mkdirSync(world.envsDir);
  fs.chmodSync(world.envsDir, given);
  const owner = commandedOwner({ logged: true });
  for (const name of ['one', 'two']) await expectStartAndStop(owner, name);
  expect(mode(world.envsDir)).toBe(given);
  expect(mode(world.folder('one')) & 0o777).toBe(0o700);
  // One for each manager.
  const found = await warnings(owner);
  expect(found).toHaveLength(count);
  for (const text of found) {
    expect(text).toMatch(/^warn: /);
    expect(text).toContain(world.envsDir);
    expect(text).toContain(given.toString(8).padStart(4, '0'));
  }
});

test("envsDir: a plugin's folder that is open to others is closed, with a log entry", async () => {
  fs.chmodSync(world.makeFolder('plugin'), 0o775);
  const owner = commandedOwner({ logged: true });
  await expectStartAndStop(owner);
  expect(mode(world.folder('plugin'))).toBe(0o700);
  const closed = (await owner.asks('records')).value.filter((record) => record.includes("closed the plugin's folder"));
  expect(closed).toEqual([expect.stringContaining(`${world.folder('plugin')} (mode 0775)`)]);
});

testWith('another user that can load the package')("envsDir: root's world-writable folder is accepted by another user", async () => {
  for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
  fs.mkdirSync(world.envsDir);
  fs.chmodSync(world.envsDir, 0o777);
  const owner = commandedOwner({ logged: true }, { before: [...as(SOMEBODY), '/bin/sh', '-c', 'umask 0777; exec "$@"', 'sh'] });
  const { error } = await owner.asks('startProcess', config('plugin', [], { command: '/bin/true', socketPath: world.path('s') }));
  expect(error.code).toBe('ERR_STARTUP_EXIT');
  expect(mode(world.envsDir)).toBe(0o777);
  expect(mode(world.folder('plugin'))).toBe(0o700);
  expect(fs.statSync(world.folder('plugin')).uid).toBe(Number(SOMEBODY));
  expect(await warnings(owner)).toHaveLength(1);
});

testWith('root')("ERR_IO: root makes no folder in another user's home", async () => {
  const home = world.path('home');
  fs.mkdirSync(home);
  fs.chownSync(home, Number(SOMEBODY), Number(SOMEBODY));
  const owner = commandedOwner({ late: true }, { env: { HOME: home } });
  expect(await owner.asks('make')).toEqual({});
  const start = () => owner.asks('startProcess', config('plugin', [], { command: '/bin/true', socketPath: world.path('s') }));
  expect((await start()).error).toEqual(errorWith('ERR_IO', `${home}: belongs to user ${SOMEBODY}; run as that user or set envsDir`));
  expect(fs.readdirSync(home)).toEqual([]);

  // The same for an envsDir that is there.
  const envsDir = path.join(home, '.ally', 'plugin-envs');
  fs.mkdirSync(envsDir, { recursive: true });
  for (const folder of [path.dirname(envsDir), envsDir]) fs.chownSync(folder, Number(SOMEBODY), Number(SOMEBODY));
  expect((await start()).error).toEqual(errorWith('ERR_IO', `${envsDir}: belongs to user ${SOMEBODY}; run as that user or set envsDir`));
  expect(fs.readdirSync(envsDir)).toEqual([]);
});
