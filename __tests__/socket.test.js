'use strict';

const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { connects, expectNothingLeft, record, useWorld } = require('./helpers/world');
const { alive, identify, signal, testOnLinux } = require('./helpers/processes');
const { failure, until } = require('./helpers/until');
const { message, setting } = require('./fixtures/faults/setting');
const { SOMEBODY, as, inject, testWith } = require('./fixtures/faults/tools');

const world = useWorld();
const { obedient, goesOn, others, thread } = setting(world);

/** Leaves a file as soon as it runs: a daemon in Python might be killed before its first line. */
const counting = (counter) => ({ command: '/bin/sh', args: ['-c', ': > "$0"; sleep 60', counter] });

/** A start that finds somebody else at its socket: at once, and without a daemon. */
async function refused(manager, config) {
  const counter = world.path('starts');
  const began = performance.now();
  const error = await failure(
    manager.startProcess({
      ...config,
      ...counting(counter),
      startupTimeout: 20_000,
    }),
  );
  expect(performance.now() - began).toBeLessThan(5_000);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pluginName: config.pluginName });
  expect(error.message).toContain(config.socketPath);
  expect(fs.existsSync(counter)).toBe(false);
  // Nor was there one that was killed before it could leave anything.
  expect(manager.getProcessInfo(config.pluginName).lastExit).toBeUndefined();
  expect(manager.getState(config.pluginName)).toBe('error');
  expect(manager.getProcessInfo(config.pluginName).lastError).toBeTruthy();
  expect(manager.getPid(config.pluginName)).toBeUndefined();
  expect(fs.existsSync(world.pidFile(config.pluginName))).toBe(false);
  return error;
}

const identity = (file) => {
  const { dev, ino, mode } = fs.lstatSync(file);
  return { dev, ino, mode };
};

describe('somebody else at the socket', () => {
  test('another program is named and left alone', async () => {
    const manager = world.manager();
    const socketPath = world.path('shared.sock');
    const program = world.program(['willing.py'], { socketPath });
    await until(() => connects(socketPath));
    const before = identity(socketPath);

    const config = world.config('plugin', undefined, { socketPath });
    const error = await refused(manager, config);
    expect(error.pid).toBe(program.pid);
    expect(error.message).toContain(String(program.pid));
    expect(alive(program)).toBe(true);
    expect(identity(socketPath)).toEqual(before);
    expect(await connects(socketPath)).toBe(true);

    // When it has gone, there is nothing in the way.
    signal(program, 'SIGTERM');
    await until(() => !alive(program));
    await manager.startProcess(config);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
  });

  test('may be this very process', async () => {
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
    ['that has bound and does not listen yet', ['binds-only.py'], (socketPath) => fs.existsSync(socketPath)],
    ['that hangs', ['hung.py', '8'], connects],
    [
      'whose queue is full',
      ['hung.py', '0'],
      async (socketPath) => {
        // One connection fits; it is kept until the end.
        if (!(await connects(socketPath))) return false;
        for (let tries = 0; tries < 3; tries++) {
          const client = net.connect(socketPath).on('error', () => {});
          world.finally(() => client.destroy());
        }
        return true;
      },
    ],
    ['that is stopped', ['willing.py'], connects],
  ])('is found also as a program %s', async (what, fixture, ready) => {
    const manager = world.manager();
    const socketPath = world.path('shared.sock');
    const program = world.program(fixture, { socketPath });
    await until(() => ready(socketPath));
    if (what === 'that is stopped') signal(program, 'SIGSTOP');
    const before = identity(socketPath);

    const error = await refused(manager, world.config('plugin', undefined, { socketPath }));
    // The kernel tells the listener's pid to a client; where no connection succeeds, nobody may know it.
    if (['that hangs', 'that is stopped'].includes(what)) expect(error.pid).toBe(program.pid);
    else expect([program.pid, undefined]).toContain(error.pid);
    expect(alive(program)).toBe(true);
    expect(identity(socketPath)).toEqual(before);
  });

  testOnLinux('that has the listener of one who is gone is named', async () => {
    const manager = world.manager();
    const socketPath = world.path('shared.sock');
    const creator = world.program(['bequeaths.py', world.path('heir')], { socketPath });
    const heir = identify(Number(await until(() => fs.existsSync(world.path('heir')) && fs.readFileSync(world.path('heir'), 'utf8'))));
    world.finally(() => signal(heir, 'SIGKILL'));
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

  testWith('another user that can load the package')('is found also where it is for another user alone', async () => {
    fs.chmodSync(world.dir, 0o777);
    const socketPath = world.path('private.sock');
    const program = world.program(['willing.py'], { socketPath });
    await until(() => connects(socketPath));
    fs.chmodSync(socketPath, 0o600);
    const before = identity(socketPath);

    const owner = obedient({}, { before: as(SOMEBODY) });
    const config = world.config('plugin', undefined, { socketPath, ...counting(world.path('starts')) });
    const { error } = await owner.asks('startProcess', config);
    // Whose it is, that user may not know.
    expect(error).toEqual(message('ERR_SOCKET_IN_USE', socketPath));
    expect(fs.existsSync(world.path('starts'))).toBe(false);
    expect((await owner.asks('getProcessInfo', 'plugin')).value.lastExit).toBeUndefined();
    expect(others(owner)).toEqual([program]);
    expect(identity(socketPath)).toEqual(before);
    expect(await connects(socketPath)).toBe(true);
  });

  testWith('namespaces of its own').each(['SOCK_SEQPACKET', 'SOCK_DGRAM'])(
    'a %s in another network namespace is found as well',
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

  testWith('strace')('that takes the place of a dead one while that is looked at is found, whatever its inode', async () => {
    const socketPath = world.path('shared.sock');
    const dead = world.program(['willing.py'], { socketPath });
    await until(() => connects(socketPath));
    signal(dead, 'SIGKILL');
    await until(() => !alive(dead));
    const owner = obedient();
    await goesOn(owner, 'warm');
    const tid = await thread(owner);
    // The kernel's answer to who holds it comes late.
    const fault = await inject(world, tid, ['recvfrom:delay_exit=1000000:when=1']);
    const start = owner.asks('startProcess', world.config('plugin', undefined, { socketPath }));
    // recvfrom(2), of x64 and of arm64.
    await until(() => /^(45|207) /.test(fs.readFileSync(`/proc/${owner.pid}/task/${tid}/syscall`, 'latin1')));
    fs.unlinkSync(socketPath);
    const stranger = net.createServer((client) => client.destroy()).listen(socketPath);
    world.finally(() => stranger.close());
    await new Promise((resolve) => stranger.on('listening', resolve));
    const before = identity(socketPath);
    expect((await start).error).toEqual({ ...message('ERR_SOCKET_IN_USE', socketPath), pid: process.pid });
    await fault.stop();
    expect(identity(socketPath)).toEqual(before);
    expect(await connects(socketPath)).toBe(true);
  });

  test('that comes while the daemon starts does not pass for it', async () => {
    const manager = world.manager();
    const socketPath = world.path('shared.sock');
    const start = manager.startProcess(world.config('plugin', ['never-binds.py'], { socketPath }));
    const daemon = identify(await until(() => manager.getPid('plugin')));
    const program = world.program(['willing.py'], { socketPath });

    const error = await failure(start);
    expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: program.pid });
    expect(alive(daemon)).toBe(false);
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: daemon.pid });
    expect(alive(program)).toBe(true);
    expect(await connects(socketPath)).toBe(true);
    expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
  });

  test('another plugin of this manager is named', async () => {
    const manager = world.manager();
    const socketPath = world.path('shared.sock');
    await manager.startProcess(world.config('first', ['willing.py'], { socketPath }));
    const pid = manager.getPid('first');
    const before = identity(socketPath);

    const error = await refused(manager, world.config('second', undefined, { socketPath }));
    expect(error.message).toContain("'first'");
    expect(manager.isRunning('first')).toBe(true);
    expect(manager.getPid('first')).toBe(pid);
    expect(identity(socketPath)).toEqual(before);

    await manager.stopProcess('first');
    await manager.startProcess(world.config('second', ['willing.py'], { socketPath }));
    expect(manager.isRunning('second')).toBe(true);
  });
});

describe('a dead socket', () => {
  testWith('strace')('gives way also where the kernel cannot be asked who has it', async () => {
    const socketPath = world.path('shared.sock');
    const program = world.program(['binds-only.py'], { socketPath });
    await until(() => fs.existsSync(socketPath));
    const owner = obedient();
    await goesOn(owner, 'warm');
    const config = world.config('plugin', undefined, { socketPath });
    // The first is the one that tries to connect; the second would ask.
    const blind = async () => inject(world, await thread(owner), ['socket:error=EAFNOSUPPORT:when=2']);
    const first = await blind();
    expect((await owner.asks('startProcess', config)).error).toEqual({ ...message('ERR_SOCKET_IN_USE', socketPath), pid: program.pid });
    await first.stop();
    expect(first.injected()).toBe(1);
    signal(program, 'SIGKILL');
    await until(() => !alive(program));
    expect(fs.existsSync(socketPath)).toBe(true);
    const second = await blind();
    expect(await owner.asks('startProcess', config)).toEqual({});
    await second.stop();
    expect(second.injected()).toBe(1);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  });

  testWith('namespaces of its own')("is not taken for another file system's of the same name and inode", async () => {
    const [one, two] = [world.path('one'), world.path('two')];
    for (const folder of [one, two]) fs.mkdirSync(folder);
    const mount = 'mount -t tmpfs tmpfs "$0/one" && mount -t tmpfs tmpfs "$0/two" && exec "$@"';
    const owner = obedient({}, { before: ['unshare', '-m', '/bin/sh', '-c', mount, world.dir] });
    const config = (name) => world.config(name, ['willing.py'], { socketPath: world.path(name, 'daemon.sock'), restart: { delay: 0 } });
    for (const name of ['one', 'two']) expect(await owner.asks('startProcess', config(name))).toEqual({});
    const inode = async (name) => (await owner.asks('run', 'stat', '-c', '%i', world.path(name, 'daemon.sock'))).value;
    expect(await inode('one')).toBe(await inode('two'));
    const { value: pid } = await owner.asks('getPid', 'two');
    signal(identify(pid), 'SIGKILL');
    await until(async () => (await owner.asks('getPid', 'two')).value !== pid && (await owner.asks('getState', 'two')).value === 'running');
    expect((await owner.asks('getProcessInfo', 'two')).value.totalRestarts).toBe(1);
    expect(await owner.asks('stopAllProcesses')).toEqual({});
  });
});

describe('a file at the socket path', () => {
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
  ])('that is %s is never removed', async (_, make) => {
    const socketPath = world.path('precious');
    make(socketPath);
    const before = identity(socketPath);
    const content = fs.statSync(socketPath).isFile() ? fs.readFileSync(socketPath, 'utf8') : undefined;

    // A daemon unlinks its path before it binds: the refusal must come before the spawn.
    const error = await refused(world.manager(), world.config('plugin', undefined, { socketPath }));
    expect(error.pid).toBeUndefined();
    expect(identity(socketPath)).toEqual(before);
    if (content !== undefined) expect(fs.readFileSync(socketPath, 'utf8')).toBe(content);
  });

  test('that is a dead socket is replaced', async () => {
    const socketPath = world.path('dead.sock');
    const program = world.program(['willing.py'], { socketPath });
    await until(() => connects(socketPath));
    signal(program, 'SIGKILL');
    await until(() => !alive(program));
    expect(fs.lstatSync(socketPath).isSocket()).toBe(true);
    expect(await connects(socketPath)).toBe(false);

    // This one does not remove it itself.
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['binds-plainly.py'], { socketPath }));
    expect(manager.isRunning('plugin')).toBe(true);
    expect(await connects(socketPath)).toBe(true);
  });

  test('that is the socket of a program that bound it under another name is left alone', async () => {
    const manager = world.manager();
    fs.mkdirSync(world.path('folder'));
    fs.symlinkSync(world.path('folder'), world.path('alias'));
    const program = world.program(['binds-only.py'], { socketPath: world.path('folder', 's') });
    await until(() => fs.existsSync(world.path('folder', 's')));
    const before = identity(world.path('folder', 's'));
    await refused(manager, world.config('plugin', undefined, { socketPath: path.join(world.path('alias'), 's') }));
    expect(alive(program)).toBe(true);
    expect(identity(world.path('folder', 's'))).toEqual(before);
  });
});

describe('after the stop', () => {
  test('the socket of a killed daemon is gone', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['stubborn.py'], { shutdownGracePeriod: 0 }));
    expect(fs.existsSync(world.socket('plugin'))).toBe(true);
    await manager.stopProcess('plugin');
    expectNothingLeft(world, 'plugin');
  });

  test('a socket that somebody else has put there by then stays', async () => {
    const manager = world.manager();
    const socketPath = world.path('shared.sock');
    await manager.startProcess(world.config('plugin', ['stubborn.py'], { socketPath, shutdownGracePeriod: 100 }));
    fs.unlinkSync(socketPath);
    const program = world.program(['willing.py'], { socketPath });
    await until(() => connects(socketPath));

    await manager.stopProcess('plugin');
    expect(manager.getState('plugin')).toBe('stopped');
    expect(alive(program)).toBe(true);
    expect(await connects(socketPath)).toBe(true);
  });

  test('a file that somebody else has put there by then stays', async () => {
    const manager = world.manager();
    const socketPath = world.path('shared.sock');
    await manager.startProcess(world.config('plugin', ['stubborn.py'], { socketPath, shutdownGracePeriod: 100 }));
    fs.unlinkSync(socketPath);
    fs.writeFileSync(socketPath, 'precious');
    await manager.stopProcess('plugin');
    expect(fs.readFileSync(socketPath, 'utf8')).toBe('precious');
  });
});

test('a restarted daemon finds the socket of its dead predecessor out of the way', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['binds-plainly.py'], { restart: { delay: 0 } }));
  const first = manager.getPid('plugin');
  process.kill(first, 'SIGKILL');
  await until(() => manager.getPid('plugin') !== first && manager.isRunning('plugin'));
  expect(await connects(world.socket('plugin'))).toBe(true);
  await until(() => events.states('plugin').length === 4);
  expect(events.of('restart')).toHaveLength(1);
});
