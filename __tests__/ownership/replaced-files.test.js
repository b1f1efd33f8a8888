'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { failure } = require('../helpers/promises');
const { useWorld } = require('../helpers/use-world');
const { useRecords } = require('./records');

const world = useWorld();
const { mode, ours } = useRecords(world);
const { commandedOwner, config, expectStartAndStop, processesBeside } = useCommandedOwner(world);

const FILES = ['daemon.pid', 'daemon.id', 'daemon.lock', '.daemon.pid.new', '.daemon.id.new'];

const things = {
  'a link to a file': (place, target) => {
    fs.writeFileSync(target, 'precious', { mode: 0o640 });
    fs.symlinkSync(target, place);
  },
  'a link to nowhere': (place, target) => fs.symlinkSync(target, place),
  'a link to a folder': (place, target) => {
    fs.mkdirSync(target);
    fs.symlinkSync(target, place);
  },
  'a link to itself': (place) => fs.symlinkSync(path.basename(place), place),
  'a link to a device': (place) => fs.symlinkSync('/dev/full', place),
  'a hard link to a file': (place, target) => {
    fs.writeFileSync(target, 'precious', { mode: 0o640 });
    fs.linkSync(target, place);
  },
  'a folder': (place) => fs.mkdirSync(place),
  'a pipe': (place) => execFileSync('mkfifo', [place]),
};

/** What the refusal says where it is not a symbolic link. No folder is ever removed. */
const refusals = { 'a hard link to a file': 'hard link', 'a folder': 'EISDIR', 'a pipe': 'must be a plain file' };

const look = (target) => {
  const found = fs.lstatSync(target, { throwIfNoEntry: false });
  return (
    found && {
      mode: found.mode,
      size: found.size,
      mtime: found.mtimeMs,
      text: found.isFile() ? fs.readFileSync(target, 'utf8') : fs.readdirSync(target),
    }
  );
};

test.each(['to a file', 'to nowhere'])('daemon.pid: a symbolic link %s is replaced, not followed', async (where) => {
  const manager = world.manager();
  world.makeFolder('plugin');
  const target = world.path('precious');
  if (where === 'to a file') fs.writeFileSync(target, 'precious');
  fs.symlinkSync(target, world.pidFile('plugin'));

  const content = () => (fs.existsSync(target) ? fs.readFileSync(target, 'utf8') : undefined);
  const before = content();

  await manager.startProcess(world.config('plugin'));
  expect(content()).toBe(before);
  expect(fs.lstatSync(world.pidFile('plugin')).isFile()).toBe(true);
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
  await manager.stopProcess('plugin');
  expect(content()).toBe(before);
});

test('records: a symbolic link in the place of daemon.lock is refused, and of any other file replaced', async () => {
  const manager = world.manager();
  const config = world.config('plugin');
  await manager.startProcess(config);
  const names = ours('plugin');
  await manager.stopProcess('plugin');
  expect(names.sort()).toEqual(['daemon.id', 'daemon.lock', 'daemon.pid']);

  for (const name of names) {
    fs.rmSync(world.folder('plugin'), { recursive: true });
    world.makeFolder('plugin');
    const target = world.path(`precious-${name}`);
    fs.writeFileSync(target, 'precious', { mode: 0o644 });
    fs.symlinkSync(target, path.join(world.folder('plugin'), name));
    const start = manager.startProcess(config);
    if (name === 'daemon.lock')
      expect(await failure(start)).toMatchObject({ code: 'ERR_IO', message: expect.stringContaining('symbolic link') });
    else await start;
    await manager.stopProcess('plugin');
    expect([name, fs.readFileSync(target, 'utf8')]).toEqual([name, 'precious']);
    expect([name, mode(target)]).toEqual([name, 0o644]);
  }
});

test("envsDir: a symbolic link in the place of the plugin's folder is not followed", async () => {
  const manager = world.manager();
  fs.mkdirSync(world.envsDir);
  fs.mkdirSync(world.path('elsewhere'), { mode: 0o755 });
  fs.symlinkSync(world.path('elsewhere'), world.folder('plugin'));
  const error = await failure(manager.startProcess(world.config('plugin', ['serves.py'], { socketPath: world.path('s') })));
  expect(error).toMatchObject({ code: 'ERR_IO', pluginName: 'plugin' });
  expect(error.message).toContain(world.folder('plugin'));
  expect(fs.readdirSync(world.path('elsewhere'))).toEqual([]);
  expect(mode(world.path('elsewhere'))).toBe(0o755);
});

test('ERR_IO: a folder in the place of daemon.pid is named', async () => {
  const manager = world.manager();
  fs.mkdirSync(path.join(world.makeFolder('plugin'), 'daemon.pid'));
  const counter = world.path('starts');
  const error = await failure(manager.startProcess(world.config('plugin', ['differs-by-start.py', counter, 'good'])));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_IO', pluginName: 'plugin' });
  expect(error.message).toContain(world.pidFile('plugin'));
  expect(manager.getState('plugin')).toBe('error');
  expect(manager.getPid('plugin')).toBeUndefined();
  expect(fs.existsSync(world.socket('plugin'))).toBe(false);
  expect(fs.lstatSync(world.pidFile('plugin')).isDirectory()).toBe(true);

  fs.rmdirSync(world.pidFile('plugin'));
  await manager.startProcess(world.config('plugin'));
  expect(manager.isRunning('plugin')).toBe(true);
});

test('ERR_IO: a file in the place of envsDir is named', async () => {
  fs.writeFileSync(world.path('file'), 'precious');
  const manager = world.manager({ envsDir: world.path('file') });
  const error = await failure(manager.startProcess(world.config('plugin', ['serves.py'], { socketPath: world.path('s') })));
  expect(error).toMatchObject({ code: 'ERR_IO', pluginName: 'plugin' });
  expect(error.message).toContain(world.path('file'));
  expect(error.message).toContain('ENOTDIR');
  expect(fs.existsSync(world.path('s'))).toBe(false);
  expect(fs.readFileSync(world.path('file'), 'utf8')).toBe('precious');
});

test.each(Object.keys(things))(
  'records: %s in the place of a file is never followed: refused for daemon.lock, otherwise replaced',
  async (kind) => {
    const owner = commandedOwner();
    for (const name of FILES) {
      const [place, target] = [path.join(world.makeFolder('plugin'), name), world.path(`target-${name}`)];
      things[kind](place, target);
      const before = look(target);
      const { error } = await owner.asks('startProcess', config('plugin', ['serves.py'], { socketPath: world.path('s') }));
      if (name === 'daemon.lock' || kind === 'a folder') {
        // Which errno there is, if any, depends on the kind.
        const refusal = { ...errorWith('ERR_IO', `/${name}: `, refusals[kind] ?? 'symbolic link'), errno: error.errno };
        expect({ name, error }).toEqual({ name, error: refusal });
        expect({ name, left: processesBeside(owner) }).toEqual({ name, left: [] });
      } else {
        expect({ name, error }).toEqual({ name, error: undefined });
        expect({ name, file: fs.lstatSync(world.pidFile('plugin')).isFile() }).toEqual({ name, file: true });
      }
      expect({ name, ...(await owner.asks('stopProcess', 'plugin')) }).toEqual({ name });
      expect({ name, target: look(target) }).toEqual({ name, target: before });
      fs.rmSync(world.folder('plugin'), { recursive: true });
    }
    await expectStartAndStop(owner);
  },
);

test('daemon.lock: a hard link to a file is refused, and the file is unchanged', async () => {
  const owner = commandedOwner();
  const [place, target] = [path.join(world.makeFolder('plugin'), 'daemon.lock'), world.path('target')];
  fs.writeFileSync(target, 'precious', { mode: 0o640 });
  fs.linkSync(target, place);
  const before = look(target);
  const { error } = await owner.asks('startProcess', config());
  expect(error).toEqual(errorWith('ERR_IO', place, 'hard link'));
  expect(look(target)).toEqual(before);
  expect(fs.statSync(place).ino).toBe(fs.statSync(target).ino);
  expect(processesBeside(owner)).toEqual([]);
  fs.unlinkSync(target);
  // Now the file has one name.
  await expectStartAndStop(owner);
});

test("envsDir: a symbolic link in the place of the plugin's folder is refused, wherever it leads", async () => {
  const owner = commandedOwner();
  fs.mkdirSync(world.envsDir);
  fs.mkdirSync(world.path('elsewhere'));
  for (const target of [world.path('elsewhere'), world.path('nowhere'), '/dev/null', 'plugin']) {
    fs.symlinkSync(target, world.folder('plugin'));
    const { error } = await owner.asks('startProcess', config('plugin', ['serves.py'], { socketPath: world.path('s') }));
    expect({ target, error }).toEqual({ target, error: errorWith('ERR_IO', world.folder('plugin'), 'link') });
    fs.unlinkSync(world.folder('plugin'));
  }
  expect(fs.readdirSync(world.path('elsewhere'))).toEqual([]);
  expect(fs.existsSync(world.path('nowhere'))).toBe(false);
  await expectStartAndStop(owner);
});
