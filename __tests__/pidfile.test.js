'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { connects, expectCleared, useWorld } = require('./helpers/world');
const { alive, children, identify, onLinux, signal, testOnLinux } = require('./helpers/processes');
const { failure, until, watch } = require('./helpers/until');

const world = useWorld();

const mode = (file) => fs.lstatSync(file).mode & 0o777;
const read = (file) => {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
};
const ours = (name) => fs.readdirSync(world.folder(name)).filter((file) => file !== 'daemon.sock');

/** The files beside daemon.pid that are there while the daemon runs, and go with it. */
async function sidecars(manager, config) {
  await manager.startProcess(config);
  const during = ours(config.pluginName);
  await manager.stopProcess(config.pluginName);
  const after = ours(config.pluginName);
  return during.filter((file) => file !== 'daemon.pid' && !after.includes(file));
}

describe('daemon.pid', () => {
  test('holds the pid and a newline, long before ready', async () => {
    const manager = world.manager();
    const go = world.path('go');
    const start = watch(manager.startProcess(world.config('plugin', ['listens-late.py', go])));
    const text = await until(() => read(world.pidFile('plugin')));
    expect(manager.getState('plugin')).toBe('starting');
    expect(start.settled).toBe(false);
    const pid = await until(() => manager.getPid('plugin'));
    expect(text).toBe(`${pid}\n`);
    // What identifies the process is there as soon.
    await until(() => ours('plugin').some((file) => file !== 'daemon.pid'));

    fs.writeFileSync(go, '');
    await start.promise;
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
  });

  test('is there when the pid can first be asked for', async () => {
    const manager = world.manager();
    for (let round = 0; round < 10; round++) {
      const start = manager.startProcess(world.config('plugin'));
      // Without a turn of the event loop in between, which would be slower than any file.
      let pid;
      for (const end = performance.now() + 5_000; pid === undefined && performance.now() < end; ) pid = manager.getPid('plugin');
      expect(read(world.pidFile('plugin'))).toBe(`${pid}\n`);
      await start;
      await manager.stopProcess('plugin');
    }
  });

  test('has something beside it that says which process that is, and both go with the daemon', async () => {
    const found = await sidecars(world.manager(), world.config('plugin'));
    expect(found.length).toBeGreaterThan(0);
    expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
  });

  test('and all that is ours is ours alone, whatever the umask', async () => {
    const umask = process.umask(0);
    world.finally(() => process.umask(umask));
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { socketPath: world.path('s') }));
    expect(fs.lstatSync(world.envsDir).isDirectory()).toBe(true);
    expect(mode(world.envsDir)).toBe(0o700);
    expect(mode(world.folder('plugin'))).toBe(0o700);
    const files = ours('plugin');
    expect(files.length).toBeGreaterThan(1);
    for (const file of files) {
      expect([file, mode(path.join(world.folder('plugin'), file))]).toEqual([file, 0o600]);
      expect(fs.lstatSync(path.join(world.folder('plugin'), file)).uid).toBe(process.getuid());
    }
  });

  test('names the new process after a restart', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { restart: { delay: 0 } }));
    const first = manager.getPid('plugin');
    process.kill(first, 'SIGKILL');
    const second = await until(() => manager.getPid('plugin') !== first && manager.isRunning('plugin') && manager.getPid('plugin'));
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${second}\n`);
  });

  test('is gone after a crash that nothing follows', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { restart: { maxAttempts: 0 } }));
    process.kill(manager.getPid('plugin'), 'SIGKILL');
    await until(() => manager.getState('plugin') === 'error');
    await expectCleared(world, 'plugin');
  });

  test('stays until the last of the tree is gone', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    await manager.startProcess(
      world.config('plugin', ['family.py', marker, 'stubborn'], { restart: { delay: 0 }, shutdownGracePeriod: 700 }),
    );
    const { stubborn } = await world.family(marker);
    const leader = identify(manager.getPid('plugin'));
    process.kill(leader.pid, 'SIGKILL');
    await until(() => !manager.isRunning('plugin'));
    // As long as the grandchild lives, the file names its leader.
    let looks = 0;
    await until(() => {
      const text = read(world.pidFile('plugin'));
      if (!alive(stubborn)) return true;
      expect(text).toBe(`${leader.pid}\n`);
      looks++;
      return false;
    });
    expect(looks).toBeGreaterThan(3);
    await until(() => manager.isRunning('plugin'));
  });

  test("is each plugin's own, and leaves what else is in the folder", async () => {
    const folder = world.makeFolder('plugin');
    fs.mkdirSync(path.join(folder, 'bin'));
    fs.writeFileSync(path.join(folder, '.installed'), 'yes');
    const manager = world.manager();
    await Promise.all(['plugin', 'other'].map((name) => manager.startProcess(world.config(name))));
    for (const name of ['plugin', 'other']) {
      expect(fs.readFileSync(world.pidFile(name), 'utf8')).toBe(`${manager.getPid(name)}\n`);
    }
    await manager.stopAllProcesses();
    expect(fs.readFileSync(path.join(folder, '.installed'), 'utf8')).toBe('yes');
    expect(fs.existsSync(path.join(folder, 'bin'))).toBe(true);
  });
});

describe('a link', () => {
  test.each(['to a file', 'to nowhere'])('%s in the place of daemon.pid is not followed', async (where) => {
    const manager = world.manager();
    world.makeFolder('plugin');
    const target = world.path('precious');
    if (where === 'to a file') fs.writeFileSync(target, 'precious');
    fs.symlinkSync(target, world.pidFile('plugin'));

    const [outcome] = await Promise.allSettled([manager.startProcess(world.config('plugin'))]);
    if (where === 'to a file') expect(fs.readFileSync(target, 'utf8')).toBe('precious');
    else expect(fs.existsSync(target)).toBe(false);
    if (outcome.status === 'fulfilled') {
      expect(fs.lstatSync(world.pidFile('plugin')).isFile()).toBe(true);
      expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
    } else {
      expect(outcome.reason.code).toBe('ERR_IO');
    }
    await manager.stopProcess('plugin');
    if (where === 'to a file') expect(fs.readFileSync(target, 'utf8')).toBe('precious');
  });

  test('in the place of any other file of ours is not followed', async () => {
    const manager = world.manager();
    const config = world.config('plugin');
    await manager.startProcess(config);
    const names = ours('plugin');
    await manager.stopProcess('plugin');
    expect(names.length).toBeGreaterThan(1);

    for (const name of names) {
      fs.rmSync(world.folder('plugin'), { recursive: true });
      world.makeFolder('plugin');
      const target = world.path(`precious-${name}`);
      fs.writeFileSync(target, 'precious', { mode: 0o644 });
      fs.symlinkSync(target, path.join(world.folder('plugin'), name));
      const [outcome] = await Promise.allSettled([manager.startProcess(config)]);
      if (outcome.status === 'rejected') expect(outcome.reason.code).toBe('ERR_IO');
      await manager.stopProcess('plugin');
      expect([name, fs.readFileSync(target, 'utf8')]).toEqual([name, 'precious']);
      expect([name, mode(target)]).toEqual([name, 0o644]);
    }
  });

  test("in the place of the plugin's folder is not followed", async () => {
    const manager = world.manager();
    fs.mkdirSync(world.envsDir);
    fs.mkdirSync(world.path('elsewhere'), { mode: 0o755 });
    fs.symlinkSync(world.path('elsewhere'), world.folder('plugin'));
    const error = await failure(manager.startProcess(world.config('plugin', ['willing.py'], { socketPath: world.path('s') })));
    expect(error).toMatchObject({ code: 'ERR_IO', pluginName: 'plugin' });
    expect(error.message).toContain(world.folder('plugin'));
    expect(fs.readdirSync(world.path('elsewhere'))).toEqual([]);
    expect(mode(world.path('elsewhere'))).toBe(0o755);
  });
});

describe('what cannot be written', () => {
  test('a folder in the place of daemon.pid', async () => {
    const manager = world.manager();
    fs.mkdirSync(path.join(world.makeFolder('plugin'), 'daemon.pid'));
    const counter = world.path('starts');
    const error = await failure(manager.startProcess(world.config('plugin', ['by-turns.py', counter, 'good'])));
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

  test('a file in the place of the folders', async () => {
    fs.writeFileSync(world.path('file'), 'precious');
    const manager = world.manager({ envsDir: world.path('file') });
    const error = await failure(manager.startProcess(world.config('plugin', ['willing.py'], { socketPath: world.path('s') })));
    expect(error).toMatchObject({ code: 'ERR_IO', pluginName: 'plugin' });
    expect(error.message).toContain(world.path('file'));
    expect(error.message).toMatch(/ENOTDIR|EEXIST/);
    expect(fs.existsSync(world.path('s'))).toBe(false);
    expect(fs.readFileSync(world.path('file'), 'utf8')).toBe('precious');
  });
});

describe('what somebody else has left in daemon.pid', () => {
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
  ])('%s signals nobody and is replaced', async (_, text) => {
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
    ['a stranger', () => world.program(['never-binds.py']).pid],
    ['a stranger of whom we know nothing', () => world.orphan(['never-binds.py']).pid],
  ])('the pid of %s signals nobody and is replaced', async (_, choose) => {
    const somebody = identify(choose());
    leave(`${somebody.pid}\n`);
    const manager = world.manager();
    await manager.startProcess(world.config('plugin'));
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
    expect(alive(somebody)).toBe(true);
  });

  test('a sidecar of ours does not vouch for another pid', async () => {
    const manager = world.manager();
    const config = world.config('plugin');
    await manager.startProcess(config);
    const saved = new Map(ours('plugin').map((name) => [name, fs.readFileSync(path.join(world.folder('plugin'), name))]));
    const daemon = manager.getPid('plugin');
    await manager.stopProcess('plugin');

    const stranger = world.orphan(['never-binds.py']);
    for (const [name, bytes] of saved) {
      // Also where the pid stands as text in the sidecar: the process that has it now started at another time.
      const text = bytes.toString('latin1').replaceAll(String(daemon), String(stranger.pid));
      fs.writeFileSync(path.join(world.folder('plugin'), name), text, 'latin1');
    }
    await manager.startProcess(config);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(alive(stranger)).toBe(true);
  });

  test('a bare pid counts if that process listens at the socket and works in the folder', async () => {
    const old = world.orphan(['stubborn.py'], { socketPath: path.join(world.makeFolder('plugin'), 'daemon.sock') });
    await until(() => connects(world.socket('plugin')));
    fs.writeFileSync(world.pidFile('plugin'), String(old.pid));

    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: 200 }));
    expect(alive(old)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(manager.getPid('plugin')).not.toBe(old.pid);
    expect(await connects(world.socket('plugin'))).toBe(true);
  });

  test('a bare pid does not count if that process works somewhere else', async () => {
    const other = world.orphan(['willing.py'], { socketPath: path.join(world.makeFolder('plugin'), 'daemon.sock'), cwd: world.dir });
    await until(() => connects(world.socket('plugin')));
    fs.writeFileSync(world.pidFile('plugin'), String(other.pid));

    const error = await failure(world.manager().startProcess(world.config('plugin')));
    expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: other.pid });
    expect(alive(other)).toBe(true);
    expect(await connects(world.socket('plugin'))).toBe(true);
  });

  test('a bare pid does not count if that process works in the folder and another one listens', async () => {
    const heard = world.path('heard');
    const worker = world.program(['signals.py', heard]);
    const listener = world.program(['willing.py'], { socketPath: path.join(world.makeFolder('plugin'), 'daemon.sock') });
    await until(async () => (await connects(world.path('program.sock'))) && connects(world.socket('plugin')));
    leave(`${worker.pid}\n`);

    const error = await failure(world.manager().startProcess(world.config('plugin')));
    expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: listener.pid });
    expect([worker, listener].every(alive)).toBe(true);
    expect(fs.existsSync(heard)).toBe(false);
    expect(await connects(world.socket('plugin'))).toBe(true);
  });

  test('a bare pid counts beside what we once wrote of a process that is gone', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin'));
    const identity = fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'));
    await manager.stopProcess('plugin');
    const old = world.orphan(['stubborn.py'], { socketPath: world.socket('plugin') });
    await until(() => connects(world.socket('plugin')));
    fs.writeFileSync(path.join(world.folder('plugin'), 'daemon.id'), identity);
    leave(String(old.pid));

    await manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: 200 }));
    expect(alive(old)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
  });

  testOnLinux('a bare pid counts if that process hangs, stopped, with a full queue', async () => {
    const socketPath = path.join(world.makeFolder('plugin'), 'daemon.sock');
    const old = world.orphan(['hung.py', 1], { socketPath });
    await until(() => connects(socketPath));
    signal(old, 'SIGSTOP');
    // Each that finds a place keeps it, for nobody takes it out.
    await until(async () => !(await connects(socketPath)));
    leave(String(old.pid));

    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: 2_000 }));
    expect(alive(old)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(await connects(socketPath)).toBe(true);
  });

  // Below a shell, so that whoever gets it wrong signals nobody but these two.
  testOnLinux.each([
    ['the owner itself', (shell, itself) => itself],
    ["the owner's parent", (shell) => shell],
  ])('an identity that is truly that of %s signals nobody and is replaced', async (_, choose) => {
    const manager = world.manager();
    await manager.startProcess(world.config('other'));
    const identity = fs.readFileSync(path.join(world.folder('other'), 'daemon.id'), 'utf8');

    const shell = `trap 'echo "{\\"signalled\\":true}"' TERM HUP INT CONT; "$@"; exit $?`;
    const owner = world.owner('obeys.js', {}, { ipc: true, before: ['/bin/sh', '-c', shell, 'sh'] });
    await owner.asks('isRunning', 'plugin');
    const [itself] = children(owner.pid);
    const somebody = choose(identify(owner.pid), itself);
    leave(`${somebody.pid}\n`);
    // As a start of ours would have written it, but for whom it names.
    const text = identity.replace(/^pid .*$/m, `pid ${somebody.pid}`).replace(/^start .*$/m, `start ${somebody.start}`);
    expect(text).not.toBe(identity);
    fs.writeFileSync(path.join(world.folder('plugin'), 'daemon.id'), text);

    expect(await owner.asks('startProcess', world.config('plugin', ['willing.py'], { shutdownGracePeriod: 100 }))).toEqual({});
    const { value: pid } = await owner.asks('getPid', 'plugin');
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
    expect(fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8')).toContain(`pid ${pid}\n`);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect([identify(owner.pid), itself].every(alive)).toBe(true);

    // The shell tells of what it has heard when its child is gone.
    signal(itself, 'SIGKILL');
    await owner.closed;
    expect(owner.lines.some((line) => 'signalled' in line)).toBe(false);
  });

  // In a world of their own, because whoever gets these wrong signals a group, or everything there is.
  const canUnshare =
    onLinux &&
    process.getuid() === 0 &&
    (() => {
      try {
        execFileSync('unshare', ['-pf', '--mount-proc', 'true'], { stdio: 'ignore' });
        return true;
      } catch {
        return false;
      }
    })();

  (canUnshare ? test : test.skip).each(['0', '-1', '1', '0\n', '-1\n', '1\n', '-0', '+1', '00', ' 1'])(
    '%j signals nobody',
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
        'starts.js',
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
});
