'use strict';

const fs = require('node:fs');
const net = require('node:net');
const { spawn } = require('node:child_process');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { SOMEBODY, as, testOnLinux, testWith } = require('../helpers/needs');
const { alive, identify, signal, systemCall } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useRefused } = require('./refused');

const world = useWorld();
const { refused, identity, counting } = useRefused(world);
const { commandedOwner, expectStartAndStop, processesBeside, supervisorThread } = useCommandedOwner(world);

test('ERR_SOCKET_IN_USE: names another program and leaves it alone', async () => {
  const manager = world.manager();
  const socketPath = world.path('shared.sock');
  const program = world.program(['serves.py'], { socketPath });
  await until(() => connects(socketPath));
  const before = identity(socketPath);

  const config = world.config('plugin', undefined, { socketPath });
  const error = await refused(manager, config);
  expect(error.pid).toBe(program.pid);
  expect(error.message).toContain(String(program.pid));
  expect(alive(program)).toBe(true);
  expect(identity(socketPath)).toEqual(before);
  expect(await connects(socketPath)).toBe(true);

  // Once the program is gone, a start works.
  signal(program, 'SIGTERM');
  await until(() => !alive(program));
  await manager.startProcess(config);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
});

test('ERR_SOCKET_IN_USE: names this very process', async () => {
  const manager = world.manager();
  const socketPath = world.path('own.sock');
  const server = net.createServer((client) => client.on('error', () => {}).end('still here'));
  await new Promise((resolve) => server.listen(socketPath, resolve));
  world.finally(() => new Promise((resolve) => server.close(resolve)));

  const error = await refused(manager, world.config('plugin', undefined, { socketPath }));
  expect(error.pid).toBe(process.pid);
  const answer = await new Promise((resolve, reject) => {
    let text = '';
    net
      .connect(socketPath)
      .on('data', (data) => (text += data))
      .on('end', () => resolve(text))
      .on('error', reject);
  });
  expect(answer).toBe('still here');
});

test.each([
  ['that has bound and does not listen yet', ['never-listens.py'], (socketPath) => fs.existsSync(socketPath)],
  ['that never accepts', ['never-accepts.py', '8'], connects],
  [
    'whose queue is full',
    ['never-accepts.py', '0'],
    async (socketPath) => {
      // The queue holds one connection, which stays open until the end.
      if (!(await connects(socketPath))) return false;
      for (let tries = 0; tries < 3; tries++) {
        const client = net.connect(socketPath).on('error', () => {});
        world.finally(() => client.destroy());
      }
      return true;
    },
  ],
  ['that is stopped by SIGSTOP', ['serves.py'], connects],
])('ERR_SOCKET_IN_USE: finds a program %s', async (what, fixture, ready) => {
  const manager = world.manager();
  const socketPath = world.path('shared.sock');
  const program = world.program(fixture, { socketPath });
  await until(() => ready(socketPath));
  if (what === 'that is stopped by SIGSTOP') signal(program, 'SIGSTOP');
  const before = identity(socketPath);

  const error = await refused(manager, world.config('plugin', undefined, { socketPath }));
  expect(error.pid).toBe(program.pid);
  expect(error.message).toContain(String(program.pid));
  expect(alive(program)).toBe(true);
  expect(identity(socketPath)).toEqual(before);
});

testOnLinux('ERR_SOCKET_IN_USE: names the heir of a listener whose creator is gone', async () => {
  const manager = world.manager();
  const socketPath = world.path('shared.sock');
  const creator = world.program(['forks-a-listener.py', world.path('heir')], { socketPath });
  const heir = await world.process(world.path('heir'));
  world.killAtEnd(heir);
  await until(() => !alive(creator));
  const before = identity(socketPath);

  const error = await refused(manager, world.config('plugin', undefined, { socketPath }));
  expect(error.pid).toBe(heir.pid);
  expect(error.message).toContain(String(heir.pid));
  expect(error.message).not.toContain(String(creator.pid));
  expect(alive(heir)).toBe(true);
  expect(identity(socketPath)).toEqual(before);
  expect(await connects(socketPath)).toBe(true);
});

testWith('another user that can load the package')('ERR_SOCKET_IN_USE: finds a socket that belongs to another user', async () => {
  fs.chmodSync(world.dir, 0o777);
  const socketPath = world.path('private.sock');
  const program = world.program(['serves.py'], { socketPath });
  await until(() => connects(socketPath));
  fs.chmodSync(socketPath, 0o600);
  const before = identity(socketPath);

  const owner = commandedOwner({}, { before: as(SOMEBODY) });
  const config = world.config('plugin', undefined, { socketPath, ...counting(world.path('starts')) });
  const { error } = await owner.asks('startProcess', config);
  // Another user cannot learn the pid.
  expect(error).toEqual(errorWith('ERR_SOCKET_IN_USE', socketPath));
  expect(fs.existsSync(world.path('starts'))).toBe(false);
  expect((await owner.asks('getProcessInfo', 'plugin')).value.lastExit).toBeUndefined();
  expect(processesBeside(owner)).toEqual([program]);
  expect(identity(socketPath)).toEqual(before);
  expect(await connects(socketPath)).toBe(true);
});

testWith('namespaces of its own').each(['SOCK_SEQPACKET', 'SOCK_DGRAM'])(
  'ERR_SOCKET_IN_USE: finds a %s bound in another network namespace',
  async (type) => {
    const socketPath = world.path('shared.sock');
    const script = `import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.${type}); s.bind(${JSON.stringify(socketPath)}); time.sleep(60)`;
    const holder = spawn('unshare', ['-n', 'python3', '-c', script], { stdio: 'ignore' });
    world.finally(() => holder.kill('SIGKILL'));
    await until(() => fs.existsSync(socketPath));
    const before = identity(socketPath);
    await refused(world.manager(), world.config('plugin', undefined, { socketPath }));
    expect(identity(socketPath)).toEqual(before);
  },
);

testWith('strace')('ERR_SOCKET_IN_USE: finds a socket that replaces a dead one during the scan', async () => {
  const socketPath = world.path('shared.sock');
  const dead = world.program(['serves.py'], { socketPath });
  await until(() => connects(socketPath));
  signal(dead, 'SIGKILL');
  await until(() => !alive(dead));
  const owner = commandedOwner();
  await expectStartAndStop(owner, 'warm');
  const tid = await supervisorThread(owner);
  // The answer of unix_diag comes 1 s late.
  const fault = await inject(world, tid, ['recvfrom:delay_exit=1000000:when=1']);
  const start = owner.asks('startProcess', world.config('plugin', undefined, { socketPath }));
  // recvfrom(2), on x64 and on arm64.
  await until(() => [45, 207].includes(systemCall(owner.pid, tid)));
  fs.unlinkSync(socketPath);
  const stranger = net.createServer((client) => client.destroy()).listen(socketPath);
  world.finally(() => stranger.close());
  await new Promise((resolve) => stranger.on('listening', resolve));
  const before = identity(socketPath);
  expect((await start).error).toEqual({ ...errorWith('ERR_SOCKET_IN_USE', socketPath), pid: process.pid });
  await fault.stop();
  expect(identity(socketPath)).toEqual(before);
  expect(await connects(socketPath)).toBe(true);
});

test('ERR_SOCKET_IN_USE: a program that binds while the daemon starts does not count as the daemon', async () => {
  const manager = world.manager();
  const socketPath = world.path('shared.sock');
  const start = manager.startProcess(world.config('plugin', ['never-binds.py'], { socketPath }));
  const daemon = identify(await until(() => manager.getPid('plugin')));
  const program = world.program(['serves.py'], { socketPath });

  const error = await failure(start);
  expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: program.pid });
  expect(alive(daemon)).toBe(false);
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: daemon.pid });
  expect(alive(program)).toBe(true);
  expect(await connects(socketPath)).toBe(true);
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
});

test('ERR_SOCKET_IN_USE: names another plugin of the manager', async () => {
  const manager = world.manager();
  const socketPath = world.path('shared.sock');
  await manager.startProcess(world.config('first', ['serves.py'], { socketPath }));
  const pid = manager.getPid('first');
  const before = identity(socketPath);

  const error = await refused(manager, world.config('second', undefined, { socketPath }));
  expect(error.message).toContain("'first'");
  expect(manager.isRunning('first')).toBe(true);
  expect(manager.getPid('first')).toBe(pid);
  expect(identity(socketPath)).toEqual(before);

  await manager.stopProcess('first');
  await manager.startProcess(world.config('second', ['serves.py'], { socketPath }));
  expect(manager.isRunning('second')).toBe(true);
});
