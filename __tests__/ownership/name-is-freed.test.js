'use strict';

// When a name is free again for others, where no daemon of the name was ever started or its owner is gone in part.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const { testOnLinux } = require('../helpers/needs');
const { alive, ancestors, identify, signal } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { PYTHON } = require('../helpers/python');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

const lockFile = () => `${world.folder('plugin')}/daemon.lock`;

/** A process that holds the name's lock and is no owner. Resolves when it has it. */
async function holdLock() {
  world.makeFolder('plugin');
  const source =
    'import fcntl, signal, sys; file = open(sys.argv[1], "w"); fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True); signal.alarm(60); signal.pause()';
  const holder = spawn(PYTHON, ['-S', '-E', '-c', source, lockFile()]);
  world.finally(() => holder.kill('SIGKILL'));
  await new Promise((resolve, reject) => holder.stdout.once('data', resolve).once('end', () => reject(new Error('no lock'))));
  return holder;
}

test('stopProcess during the preparation frees the name: another process starts it', async () => {
  const other = world.owner('obeys-commands.js', {}, { ipc: true });
  const holder = await holdLock();
  const manager = world.manager();
  // The preparation waits for the lock.
  const start = watch(manager.startProcess(world.config('plugin')));
  await manager.stopProcess('plugin');
  expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
  const gone = new Promise((resolve) => holder.once('exit', resolve));
  holder.kill('SIGKILL');
  await gone;
  // A preparation that goes on tries for the lock every 5 ms, on the thread that does this.
  await manager.startProcess(world.config('another'));
  expect(manager.getState('plugin')).toBe('stopped');
  expect(await other.asks('startProcess', world.config('plugin'))).toEqual({});
  expect((await other.asks('isRunning', 'plugin')).value).toBe(true);
});

describe('a child process that has the descriptor of the lock, as between fork and exec, does not keep the name', () => {
  /** A start whose preparation has the lock and waits for the end of an orphan; and the child. */
  async function preparing(manager) {
    world.makeFolder('plugin');
    const orphan = world.orphan(['ignores-signals.py'], { socketPath: world.socket('plugin') });
    await until(() => connects(world.socket('plugin')));
    fs.writeFileSync(world.pidFile('plugin'), `${orphan.pid}\n`);
    const start = watch(manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 20_000 })));
    await until(() => fs.existsSync(lockFile()) && fs.readFileSync(lockFile(), 'utf8').startsWith('owner '));
    const [lock] = fs.readdirSync('/proc/self/fd').filter((fd) => linkOf(`/proc/self/fd/${fd}`) === lockFile());
    const child = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', Number(lock)] });
    world.finally(() => child.kill('SIGKILL'));
    const has = () => linkOf(`/proc/${child.pid}/fd/3`) === lockFile();
    expect(has()).toBe(true);
    expect(start.settled).toBe(false);
    return { orphan, start, child, has };
  }

  async function expectFree({ has }) {
    await world.manager().startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 0 }));
    expect(has()).toBe(true);
  }

  testOnLinux('when a preparation is called off', async () => {
    const manager = world.manager();
    const prepared = await preparing(manager);
    await manager.stopProcess('plugin');
    expect((await failure(prepared.start.promise)).code).toBe('ERR_STOPPED');
    await expectFree(prepared);
  });

  testOnLinux('when a preparation fails', async () => {
    const prepared = await preparing(world.manager());
    // The socket path is another's by the time that the orphan is gone.
    fs.unlinkSync(world.socket('plugin'));
    const server = net.createServer().listen(world.socket('plugin'));
    await new Promise((resolve) => server.once('listening', resolve));
    signal(prepared.orphan, 'SIGKILL');
    expect((await failure(prepared.start.promise)).code).toBe('ERR_SOCKET_IN_USE');
    await new Promise((resolve) => server.close(resolve));
    await expectFree(prepared);
  });
});

function linkOf(path) {
  try {
    return fs.readlinkSync(path);
  } catch {
    return undefined;
  }
}

testOnLinux('a worker that was terminated while its process lives: a start from another process waits for its daemon to stop', async () => {
  const owner = world.owner('outlives-worker.js', { configs: [world.config('plugin')] }, { ipc: true });
  const leader = identify((await owner.says('ready')).plugin);
  const [keeper] = ancestors(leader.pid);
  // It neither stops the daemon nor says in the lock that it is about to.
  signal(keeper, 'SIGSTOP');
  world.finally(() => signal(keeper, 'SIGCONT'));
  owner.child.send('terminate');
  await owner.says('terminated');

  const manager = world.manager();
  const start = watch(manager.startProcess(world.config('plugin')));
  // It has looked at the lock before this.
  await manager.startProcess(world.config('another'));
  expect([start.settled, start.error]).toEqual([false, undefined]);
  expect(alive(leader)).toBe(true);
  signal(keeper, 'SIGCONT');
  await start.promise;
  expect(alive(leader)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(owner.gone).toBe(false);
});
