'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { alive, identify, signal } = require('../helpers/proc');
const { connects } = require('../helpers/sockets');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useRefused } = require('./refused');

const world = useWorld();
const { refused, identity } = useRefused(world);
const { commandedOwner, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

testWith('strace')('socketPath: a dead socket is replaced where unix_diag is not available', async () => {
  const socketPath = world.path('shared.sock');
  const program = world.program(['never-listens.py'], { socketPath });
  await until(() => fs.existsSync(socketPath));
  const owner = commandedOwner();
  await expectStartAndStop(owner, 'warm');
  const config = world.config('plugin', undefined, { socketPath });
  // The first socket connects; the second is the netlink socket.
  const blind = async () => inject(world, await supervisorThread(owner), ['socket:error=EAFNOSUPPORT:when=2']);
  const first = await blind();
  expect((await owner.asks('startProcess', config)).error).toEqual({ ...errorWith('ERR_SOCKET_IN_USE', socketPath), pid: program.pid });
  await first.stop();
  expect(first.injected()).toBe(1);
  signal(program, 'SIGKILL');
  await until(() => !alive(program));
  expect(fs.existsSync(socketPath)).toBe(true);
  // Without unix_diag, a bound socket of any process whose file was renamed may be this one. Other tests make such sockets.
  await until(async () => {
    const second = await blind();
    const { error } = await owner.asks('startProcess', config);
    await second.stop();
    expect(second.injected()).toBe(1);
    if (error) expect(error.message).toContain('bound it under another name');
    return !error;
  });
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
});

testWith('namespaces of its own')(
  'socketPath: a dead socket is not mixed up with a live one of the same inode on another file system',
  async () => {
    const [one, two] = [world.path('one'), world.path('two')];
    for (const folder of [one, two]) fs.mkdirSync(folder);
    const mount = 'mount -t tmpfs tmpfs "$0/one" && mount -t tmpfs tmpfs "$0/two" && exec "$@"';
    const owner = commandedOwner({}, { before: ['unshare', '-m', '/bin/sh', '-c', mount, world.dir] });
    const config = (name) => world.config(name, ['serves.py'], { socketPath: world.path(name, 'daemon.sock'), restart: { delay: 0 } });
    for (const name of ['one', 'two']) expect(await owner.asks('startProcess', config(name))).toEqual({});
    const inode = async (name) => (await owner.asks('run', 'stat', '-c', '%i', world.path(name, 'daemon.sock'))).value;
    expect(await inode('one')).toBe(await inode('two'));
    const { value: pid } = await owner.asks('getPid', 'two');
    signal(identify(pid), 'SIGKILL');
    await until(async () => (await owner.asks('getPid', 'two')).value !== pid && (await owner.asks('getState', 'two')).value === 'running');
    expect((await owner.asks('getProcessInfo', 'two')).value.totalRestarts).toBe(1);
    expect(await owner.asks('stopAllProcesses')).toEqual({});
  },
);

test.each([
  ['a regular file', (file) => fs.writeFileSync(file, 'precious')],
  ['an empty file', (file) => fs.writeFileSync(file, '')],
  ['a folder', (file) => fs.mkdirSync(file)],
  [
    'a link to a file',
    (file) => {
      fs.writeFileSync(`${file}.target`, 'precious');
      fs.symlinkSync(`${file}.target`, file);
    },
  ],
])('socketPath: %s is never removed', async (_, make) => {
  const socketPath = world.path('precious');
  make(socketPath);
  const before = identity(socketPath);
  const content = fs.statSync(socketPath).isFile() ? fs.readFileSync(socketPath, 'utf8') : undefined;

  // Many daemons unlink their path before they bind, so the refusal must come before the spawn.
  const error = await refused(world.manager(), world.config('plugin', undefined, { socketPath }));
  expect(error.pid).toBeUndefined();
  expect(identity(socketPath)).toEqual(before);
  if (content !== undefined) expect(fs.readFileSync(socketPath, 'utf8')).toBe(content);
});

test('socketPath: a dead socket is replaced', async () => {
  const socketPath = world.path('dead.sock');
  const program = world.program(['serves.py'], { socketPath });
  await until(() => connects(socketPath));
  signal(program, 'SIGKILL');
  await until(() => !alive(program));
  expect(fs.lstatSync(socketPath).isSocket()).toBe(true);
  expect(await connects(socketPath)).toBe(false);

  // This daemon does not unlink its path.
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['binds-without-unlinking.py'], { socketPath }));
  expect(manager.isRunning('plugin')).toBe(true);
  expect(await connects(socketPath)).toBe(true);
});

test('socketPath: a socket that was bound under another name is left alone', async () => {
  const manager = world.manager();
  fs.mkdirSync(world.path('folder'));
  fs.symlinkSync(world.path('folder'), world.path('alias'));
  const program = world.program(['never-listens.py'], { socketPath: world.path('folder', 's') });
  await until(() => fs.existsSync(world.path('folder', 's')));
  const before = identity(world.path('folder', 's'));
  await refused(manager, world.config('plugin', undefined, { socketPath: path.join(world.path('alias'), 's') }));
  expect(alive(program)).toBe(true);
  expect(identity(world.path('folder', 's'))).toEqual(before);
});

test('socketPath: the socket of a killed daemon is removed by the stop', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 0 }));
  expect(fs.existsSync(world.socket('plugin'))).toBe(true);
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin');
});

test("socketPath: another program's socket is not removed by the stop", async () => {
  const manager = world.manager();
  const socketPath = world.path('shared.sock');
  await manager.startProcess(world.config('plugin', ['ignores-signals.py'], { socketPath, shutdownGracePeriod: 100 }));
  fs.unlinkSync(socketPath);
  const program = world.program(['serves.py'], { socketPath });
  await until(() => connects(socketPath));

  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopped');
  expect(alive(program)).toBe(true);
  expect(await connects(socketPath)).toBe(true);
});

test("socketPath: another program's file is not removed by the stop", async () => {
  const manager = world.manager();
  const socketPath = world.path('shared.sock');
  await manager.startProcess(world.config('plugin', ['ignores-signals.py'], { socketPath, shutdownGracePeriod: 100 }));
  fs.unlinkSync(socketPath);
  fs.writeFileSync(socketPath, 'precious');
  await manager.stopProcess('plugin');
  expect(fs.readFileSync(socketPath, 'utf8')).toBe('precious');
});
