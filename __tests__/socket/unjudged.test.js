'use strict';

// Sockets of which the kernel says neither that they are dead nor that they are alive.

const fs = require('node:fs');
const { spawn } = require('node:child_process');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { SOMEBODY, as, testWith } = require('../helpers/needs');
const { alive, identify, signal } = require('../helpers/proc');
const { PYTHON } = require('../helpers/python');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');
const { useRefused } = require('./refused');

const world = useWorld();
const { identity } = useRefused(world);
const { commandedOwner, config, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

const notJudged = (file) => errorWith('ERR_SOCKET_IN_USE', `${file} can't be connected to \\(EACCES\\), remove ${file} if nothing uses it`);

/** A program of SOMEBODY with a socket of mode 000, and an owner of the same user. */
async function shutSocket(...before) {
  for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
  const socketPath = world.path('shared.sock');
  const command = [...before, ...as(SOMEBODY), PYTHON, ...script('serves.py')];
  const child = spawn(command[0], command.slice(1), {
    env: { ...process.env, SOCKET_PATH: socketPath },
    stdio: 'ignore',
  });
  world.finally(() => child.kill('SIGKILL'));
  await until(() => fs.existsSync(socketPath));
  fs.chmodSync(socketPath, 0);
  const owner = commandedOwner({}, { before: as(SOMEBODY) });
  const start = () => owner.asks('startProcess', config('plugin', [], { command: '/bin/true', socketPath }));
  return { program: identify(child.pid), socketPath, start };
}

testWith('another user that can load the package')(
  'ERR_SOCKET_IN_USE: a living socket of mode 000 in another network namespace is left alone',
  async () => {
    const { program, socketPath, start } = await shutSocket('unshare', '-n');
    const before = identity(socketPath);
    expect((await start()).error).toEqual(notJudged(socketPath));
    expect(identity(socketPath)).toEqual(before);
    expect(alive(program)).toBe(true);
  },
);

testWith('another user that can load the package')('ERR_SOCKET_IN_USE: names the holder of a socket of mode 000', async () => {
  const { program, socketPath, start } = await shutSocket();
  expect((await start()).error).toEqual({ ...errorWith('ERR_SOCKET_IN_USE', socketPath), pid: program.pid });
});

testWith('another user that can load the package')('ERR_SOCKET_IN_USE: a socket of mode 000 that nobody holds is left alone', async () => {
  const { program, socketPath, start } = await shutSocket();
  signal(program, 'SIGKILL');
  await until(() => !alive(program));
  expect((await start()).error).toEqual(notJudged(socketPath));
  expect(fs.lstatSync(socketPath).isSocket()).toBe(true);
  fs.unlinkSync(socketPath);
  expect((await start()).error).toMatchObject({ code: 'ERR_STARTUP_EXIT' });
});

const blind = async (owner) => inject(world, await supervisorThread(owner), ['socket:error=EAFNOSUPPORT:when=2']);

testWith('namespaces of its own', 'strace').each(['with netlink', 'without netlink'])(
  'ERR_SOCKET_IN_USE: a bound socket that was renamed on an overlay of two file systems is left alone, %s',
  async (netlink) => {
    const layers = world.path('layers');
    const socketPath = world.path('layers', 'merged', 'renamed');
    fs.mkdirSync(layers);
    const mount = [
      'cd "$0/layers" && mkdir lower upper merged',
      'mount -t tmpfs lower lower && mount -t tmpfs upper upper && mkdir upper/files upper/work',
      'mount -t overlay both -o lowerdir=lower,upperdir=upper/files,workdir=upper/work merged',
      `SOCKET_PATH="$0/layers/merged/s" ${PYTHON} ${script('never-listens.py').join(' ')} </dev/null >/dev/null 2>&1 &`,
      'echo $! > "$0/holder"',
      'cd / && exec "$@"',
    ].join('\n');
    const owner = commandedOwner({}, { before: ['unshare', '-m', '/bin/sh', '-ec', mount, world.dir] });
    await expectStartAndStop(owner, 'warm');
    const holder = await world.process(world.path('holder'));
    world.killAtEnd(holder);
    await until(async () => (await owner.asks('list', world.path('layers', 'merged'))).value.includes('s'));
    await owner.asks('run', 'mv', world.path('layers', 'merged', 's'), socketPath);
    const fault = netlink === 'without netlink' && (await blind(owner));
    const { error } = await owner.asks('startProcess', config('plugin', [], { command: '/bin/true', socketPath }));
    if (fault) await fault.stop();
    if (fault)
      expect(error).toEqual(errorWith('ERR_SOCKET_IN_USE', `${socketPath} may be in use`, `remove ${socketPath} if nothing uses it`));
    else expect(error).toEqual({ ...errorWith('ERR_SOCKET_IN_USE', socketPath), pid: holder.pid });
    expect((await owner.asks('list', world.path('layers', 'merged'))).value).toEqual(['renamed']);
    signal(holder, 'SIGKILL');
    await until(() => !alive(holder));
    await expectStartAndStop(owner, 'plugin', { socketPath });
  },
);
