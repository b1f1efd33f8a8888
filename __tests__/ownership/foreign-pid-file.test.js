'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { testOnLinux, testWith } = require('../helpers/needs');
const { alive, children, identify, signal } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useRecords } = require('./records');

const world = useWorld();
const { ours } = useRecords(world);

const leave = (text) => {
  world.makeFolder('plugin');
  fs.writeFileSync(world.pidFile('plugin'), text);
};

test.each([
  ['nothing', ''],
  ['a newline', '\n'],
  ['a text', 'not a pid\n'],
  ['a huge number', '99999999999999999999\n'],
  ['a number past 32 bits', '4294967297\n'],
  ['a fraction', '1.5\n'],
  ['a pid and more', '12 34\n'],
  ['bytes', Buffer.from([0xff, 0xfe, 0, 1])],
  ['a great deal', '7'.repeat(1 << 20)],
])('daemon.pid: %s as content signals no process and is replaced', async (_, text) => {
  const bystander = world.program(['never-binds.py']);
  leave(text);
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
  expect(alive(bystander)).toBe(true);
});

test.each([
  ['this process', () => process.pid],
  ['its parent', () => process.ppid],
  ['an unrelated child', () => world.program(['never-binds.py']).pid],
  ['an unrelated orphan', () => world.orphan(['never-binds.py']).pid],
])('daemon.pid: the pid of %s signals no process and is replaced', async (_, choose) => {
  const somebody = identify(choose());
  leave(`${somebody.pid}\n`);
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
  expect(alive(somebody)).toBe(true);
});

test('daemon.id: does not vouch for another pid', async () => {
  const manager = world.manager();
  const config = world.config('plugin');
  await manager.startProcess(config);
  const saved = new Map(ours('plugin').map((name) => [name, fs.readFileSync(path.join(world.folder('plugin'), name))]));
  const daemon = manager.getPid('plugin');
  await manager.stopProcess('plugin');

  const stranger = world.orphan(['never-binds.py']);
  for (const [name, bytes] of saved) {
    // The pid in daemon.id is replaced too: the process that has it now started at another time.
    const text = bytes.toString('latin1').replaceAll(String(daemon), String(stranger.pid));
    fs.writeFileSync(path.join(world.folder('plugin'), name), text, 'latin1');
  }
  await manager.startProcess(config);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(alive(stranger)).toBe(true);
});

test('daemon.pid: a bare pid counts if that process listens at socketPath and works in pluginPath', async () => {
  const old = world.orphan(['ignores-signals.py'], { socketPath: path.join(world.makeFolder('plugin'), 'daemon.sock') });
  await until(() => connects(world.socket('plugin')));
  fs.writeFileSync(world.pidFile('plugin'), String(old.pid));

  const warnings = [];
  const manager = world.manager({ logger: { debug() {}, info() {}, error() {}, warn: (text) => warnings.push(text) } });
  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 200 }));
  expect(alive(old)).toBe(false);
  // The TypeScript original takes no lock, so its owner may be alive.
  expect(warnings).toEqual([expect.stringMatching(new RegExp(`daemon.pid names.*${old.pid}`))]);
  expect(warnings[0]).not.toMatch(/orphan|dead|owner/);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(manager.getPid('plugin')).not.toBe(old.pid);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('daemon.pid: a bare pid does not count if that process works in another folder', async () => {
  const other = world.orphan(['serves.py'], { socketPath: path.join(world.makeFolder('plugin'), 'daemon.sock'), cwd: world.dir });
  await until(() => connects(world.socket('plugin')));
  fs.writeFileSync(world.pidFile('plugin'), String(other.pid));

  const error = await failure(world.manager().startProcess(world.config('plugin')));
  expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: other.pid });
  expect(alive(other)).toBe(true);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('daemon.pid: a bare pid does not count if another process listens at socketPath', async () => {
  const heard = world.path('heard');
  const worker = world.program(['records-stop-signal.py', heard]);
  const listener = world.program(['serves.py'], { socketPath: path.join(world.makeFolder('plugin'), 'daemon.sock') });
  await until(async () => (await connects(world.path('program.sock'))) && connects(world.socket('plugin')));
  leave(`${worker.pid}\n`);

  const error = await failure(world.manager().startProcess(world.config('plugin')));
  expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: listener.pid });
  expect([worker, listener].every(alive)).toBe(true);
  expect(fs.existsSync(heard)).toBe(false);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('daemon.pid: a bare pid counts beside a daemon.id of a process that is gone', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  const identity = fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'));
  await manager.stopProcess('plugin');
  const old = world.orphan(['ignores-signals.py'], { socketPath: world.socket('plugin') });
  await until(() => connects(world.socket('plugin')));
  fs.writeFileSync(path.join(world.folder('plugin'), 'daemon.id'), identity);
  leave(String(old.pid));

  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 200 }));
  expect(alive(old)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
});

testOnLinux('daemon.pid: a bare pid counts if that process is stopped with a full queue', async () => {
  const socketPath = path.join(world.makeFolder('plugin'), 'daemon.sock');
  const old = world.orphan(['never-accepts.py', 1], { socketPath });
  await until(() => connects(socketPath));
  signal(old, 'SIGSTOP');
  // A connection in the queue stays there, because it is never accepted.
  await until(async () => !(await connects(socketPath)));
  leave(String(old.pid));

  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 2_000 }));
  expect(alive(old)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(await connects(socketPath)).toBe(true);
});

// Below a shell, so that a wrong implementation signals these two processes only.
testOnLinux.each([
  ['the owner itself', (_, itself) => itself],
  ["the owner's parent", (shell) => shell],
])('daemon.id: a true identity of %s signals no process and is replaced', async (_, choose) => {
  const manager = world.manager();
  await manager.startProcess(world.config('other'));
  const identity = fs.readFileSync(path.join(world.folder('other'), 'daemon.id'), 'utf8');

  const shell = `trap 'echo "{\\"signalled\\":true}"' TERM HUP INT CONT; "$@"; exit $?`;
  const owner = world.owner('obeys-commands.js', {}, { ipc: true, before: ['/bin/sh', '-c', shell, 'sh'] });
  await owner.asks('isRunning', 'plugin');
  const [itself] = children(owner.pid);
  const somebody = choose(identify(owner.pid), itself);
  leave(`${somebody.pid}\n`);
  // As the manager writes it, but with another process.
  const text = identity.replace(/^pid .*$/m, `pid ${somebody.pid}`).replace(/^start .*$/m, `start ${somebody.start}`);
  expect(text).not.toBe(identity);
  fs.writeFileSync(path.join(world.folder('plugin'), 'daemon.id'), text);

  expect(await owner.asks('startProcess', world.config('plugin', ['serves.py'], { shutdownGracePeriod: 100 }))).toEqual({});
  const { value: pid } = await owner.asks('getPid', 'plugin');
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
  expect(fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8')).toContain(`pid ${pid}\n`);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect([identify(owner.pid), itself].every(alive)).toBe(true);

  // The shell runs its trap when its child is gone.
  signal(itself, 'SIGKILL');
  await owner.closed;
  expect(owner.lines.some((line) => 'signalled' in line)).toBe(false);
});

testWith('a pid namespace').each(['0', '-1', '1', '0\n', '-1\n', '1\n', '-0', '+1', '00', ' 1'])(
  'daemon.pid: %j signals no process',
  async (text) => {
    leave(text);
    const guard = `
      trap 'echo "{\\"signalled\\":true}"' TERM HUP INT CONT
      sleep 50 & bystander=$!
      "$@"
      code=$?
      state=$(cut -d' ' -f3 /proc/$bystander/stat)
      echo "{\\"bystander\\":\\"$state\\"}"
      kill -s KILL $bystander
      exit $code`;
    const owner = world.owner(
      'starts-and-ends.js',
      { configs: [world.config('plugin')], end: 'stop' },
      {
        before: ['unshare', '-pf', '--mount-proc', '/bin/sh', '-c', guard, 'sh'],
      },
    );
    expect(await owner.says('ready')).toEqual({ plugin: expect.any(Number) });
    expect(await owner.says('stopped')).toBe(true);
    expect(await owner.says('bystander')).toBe('S');
    expect(owner.lines.some((line) => 'signalled' in line)).toBe(false);
    expect(await owner.exited).toEqual({ code: 0, signal: null });
  },
);
