'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { SOMEBODY, as, testWith } = require('../helpers/needs');
const { alive, identify } = require('../helpers/proc');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, processesBeside } = useCommandedOwner(world);

const precious = (file) => {
  const { uid, mode, ino } = fs.lstatSync(file);
  return { uid, mode, ino, files: fs.readdirSync(file) };
};

// Serves at a socket of mode 777, whatever the umask.
const serves = {
  command: process.execPath,
  args: [
    '-e',
    `
    process.umask(0);
    setTimeout(() => process.exit(9), 60_000);
    require('net').createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH);
  `,
  ],
};

async function worksUnderEveryUmask(...before) {
  const envsDir = world.path('two', 'levels');
  const owner = commandedOwner({ envsDir }, { before: [...before, '/bin/sh', '-c', 'umask 0777; exec "$@"', 'sh'] });
  expect(await owner.asks('startProcess', config('plugin', [], { ...serves, socketPath: world.path('s') }))).toEqual({});
  for (const [file, mode] of [
    ['..', 0o700],
    ['.', 0o700],
    ['plugin', 0o700],
    ['plugin/daemon.pid', 0o600],
    ['plugin/daemon.id', 0o600],
    ['plugin/daemon.lock', 0o600],
  ]) {
    expect([file, fs.statSync(path.join(envsDir, file)).mode & 0o777]).toEqual([file, mode]);
  }
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  await expectStartAndStop(owner, 'plugin', { ...serves, socketPath: world.path('s') });
}

testWith('another user that can load the package')('envsDir: the default is made below HOME with mode 700', async () => {
  const home = world.path('home');
  const owner = commandedOwner({ late: true }, { env: { HOME: home } });
  expect(await owner.asks('make')).toEqual({});
  await expectStartAndStop(owner, 'plugin', { socketPath: world.path('s') });
  const folder = path.join(home, '.ally', 'plugin-envs', 'plugin');
  expect(fs.readdirSync(folder)).toEqual(['daemon.lock']);
  for (let made = folder; made !== world.dir; made = path.dirname(made))
    expect([made, fs.statSync(made).mode & 0o777]).toEqual([made, 0o700]);
});

testWith('another user that can load the package')('envsDir: is required where neither HOME nor the user database has a home', async () => {
  const owner = commandedOwner({ late: true }, { before: [...as(SOMEBODY), 'env', '-u', 'HOME'] });
  const { error } = await owner.asks('make');
  expect(error).toMatchObject({ isError: true, code: 'ERR_INVALID_CONFIG', message: expect.stringContaining('envsDir') });
});

test("envsDir: the default is the user's home where HOME is empty", async () => {
  // config/manifest.test.js checks the path. Nothing is started here, because it would write to that home.
  expect(await commandedOwner({ late: true }, { env: { HOME: '' } }).asks('make')).toEqual({});
});

test('envsDir: a relative HOME is refused', async () => {
  const owner = commandedOwner({ late: true }, { env: { HOME: 'relative' } });
  expect((await owner.asks('make')).error).toMatchObject({
    isError: true,
    code: 'ERR_INVALID_CONFIG',
    message: expect.stringContaining('HOME'),
  });
});

testWith('another user that can load the package')('envsDir: works without HOME and home folder', async () => {
  fs.chmodSync(world.dir, 0o777);
  const owner = commandedOwner({ late: true }, { before: [...as(SOMEBODY), 'env', '-u', 'HOME'] });
  expect(await owner.asks('make', { envsDir: world.envsDir })).toEqual({});
  fs.chmodSync(world.pluginPath, 0o777);
  const serve = `process.umask(0); require('net').createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH); setTimeout(() => {}, 60_000)`;
  await expectStartAndStop(owner, 'plugin', { command: process.execPath, args: ['-e', serve] });
});

testWith('root')('ERR_IO: a plugin folder that another user owns is refused and unchanged', async () => {
  const folder = world.makeFolder('plugin');
  fs.chownSync(folder, Number(SOMEBODY), Number(SOMEBODY));
  const before = precious(folder);
  const owner = commandedOwner();
  const { error } = await owner.asks('startProcess', config('plugin', ['serves.py'], { socketPath: world.path('s') }));
  expect(error).toEqual(errorWith('ERR_IO', folder, SOMEBODY));
  expect(precious(folder)).toEqual(before);
  expect(processesBeside(owner)).toEqual([]);
  fs.chownSync(folder, 0, 0);
  await expectStartAndStop(owner);
});

testWith('root')('ERR_IO: an envsDir that another user owns is refused and unchanged', async () => {
  fs.mkdirSync(world.envsDir, { mode: 0o777 });
  fs.chownSync(world.envsDir, Number(SOMEBODY), Number(SOMEBODY));
  const before = precious(world.envsDir);
  const owner = commandedOwner();
  const { error } = await owner.asks('startProcess', config('plugin', ['serves.py'], { socketPath: world.path('s') }));
  expect(error).toEqual(errorWith('ERR_IO', `${world.envsDir}: `, SOMEBODY));
  expect(precious(world.envsDir)).toEqual(before);
  expect(processesBeside(owner)).toEqual([]);
  fs.chownSync(world.envsDir, 0, 0);
  await expectStartAndStop(owner);
});

test('envsDir: is made under umask 0777, two levels deep', () => worksUnderEveryUmask());

// root ignores the mode of a folder, another user does not.
testWith('another user that can load the package')('envsDir: is made under umask 0777 by a user other than root', async () => {
  for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
  await worksUnderEveryUmask(...as(SOMEBODY));
});

testWith('another user that can load the package')('ERR_IO: EACCES in an envsDir that another user owns', async () => {
  fs.mkdirSync(world.envsDir, { mode: 0o755 });
  fs.chmodSync(world.dir, 0o777);
  const owner = commandedOwner({}, { before: as(SOMEBODY) });
  const { error } = await owner.asks('startProcess', config('plugin', [], { command: '/bin/true', socketPath: world.path('s') }));
  expect(error).toEqual(errorWith('ERR_IO', world.folder('plugin'), 'EACCES'));
  expect(fs.readdirSync(world.envsDir)).toEqual([]);
});

testWith('another user that can load the package')(
  'ERR_IO: a stop that cannot remove the record names it, and no process is left',
  async () => {
    for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
    const owner = commandedOwner({}, { before: as(SOMEBODY) });
    const outside = { ...serves, socketPath: world.path('s') };
    const shut = async () => {
      expect(await owner.asks('startProcess', config('plugin', [], outside))).toEqual({});
      await owner.asks('chmod', world.folder('plugin'), 0o500);
      return identify((await owner.asks('getPid', 'plugin')).value);
    };
    const expectRecord = async (daemon) => {
      expect(alive(daemon)).toBe(false);
      expect((await owner.asks('getState', 'plugin')).value).toBe('stopped');
      expect((await owner.asks('getProcessInfo', 'plugin')).value.lastError).toContain('EACCES');
      expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${daemon.pid}\n`);
      await owner.asks('chmod', world.folder('plugin'), 0o700);
    };
    const first = await shut();
    expect((await owner.asks('stopProcess', 'plugin')).error).toEqual(errorWith('ERR_IO', 'Failed to stop', 'daemon.id', 'EACCES'));
    await expectRecord(first);
    await expectStartAndStop(owner, 'plugin', outside);
    expect(fs.readdirSync(world.folder('plugin'))).toEqual(['daemon.lock']);
    const second = await shut();
    // stopAllProcesses never rejects.
    expect(await owner.asks('stopAllProcesses')).toEqual({});
    await expectRecord(second);
  },
);

test('envsDir: folders have mode 700 and files 600 under umask 0 and 077', async () => {
  for (const [umask, name] of [
    ['0', 'open'],
    ['077', 'shut'],
  ]) {
    const owner = commandedOwner({ envsDir: world.path(name) }, { before: ['/bin/sh', '-c', `umask ${umask}; exec "$@"`, 'sh'] });
    expect(await owner.asks('startProcess', config('plugin', ['serves.py'], { socketPath: world.path(`${name}.sock`) }))).toEqual({});
    const folder = world.path(name, 'plugin');
    for (const [file, mode] of [
      ['', 0o700],
      ['daemon.pid', 0o600],
      ['daemon.id', 0o600],
      ['daemon.lock', 0o600],
    ]) {
      expect([name, file, fs.statSync(path.join(folder, file)).mode & 0o777]).toEqual([name, file, mode]);
    }
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  }
});
