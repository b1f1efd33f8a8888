'use strict';

// Faults of the system, put in one at a time: each ends in a clear error or in a slower path that works, and the
// manager goes on. strace makes system calls fail; where it is missing, those tests are skipped and say so.

const fs = require('node:fs');
const path = require('node:path');
const { connects, useWorld } = require('./helpers/world');
const { alive, ancestors, children, descendants, identify, mentioning, signal, stat } = require('./helpers/processes');
const { until } = require('./helpers/until');
const { ANOTHER, ROOT, SOMEBODY, as, copyPackage, inject, testWith, zombies } = require('./fixtures/faults/tools');

const world = useWorld();

const GRACE = 300;

const obedient = (order = {}, options = {}) => world.owner('../faults/obeys.js', order, { ipc: true, ...options });

const config = (name = 'plugin', fixture = ['willing.py'], changes = {}) => world.config(name, fixture, { shutdownGracePeriod: GRACE, ...changes });

/** Starts and stops as on any other day, and nothing of it is left. */
async function goesOn(owner, name = 'plugin', changes = {}) {
  expect(await owner.asks('startProcess', config(name, ['willing.py'], changes))).toEqual({});
  const { value: pid } = await owner.asks('getPid', name);
  const daemon = identify(pid);
  expect(alive(daemon)).toBe(true);
  expect(await owner.asks('stopProcess', name)).toEqual({});
  expect(alive(daemon)).toBe(false);
}

/** Every process of this test but that owner. */
const others = (owner) => mentioning(world.dir).filter(({ pid }) => pid !== owner.pid);

async function descriptors(owner) {
  return (await owner.asks('descriptors')).value;
}

/** The supervisor's own thread. */
async function thread(owner) {
  return (await owner.asks('thread', 'ally-bpm')).value;
}

async function guardianOf(owner) {
  return (await until(() => children(owner.pid).length === 1 && children(owner.pid), 5_000, 'there is one guardian'))[0];
}

/** What stands between the owner and a daemon of its own, the keeper first. */
const between = (owner, daemon) => ancestors(daemon.pid).filter(({ pid }) => descendants(owner.pid).some((child) => child.pid === pid));

const message = (code, ...parts) => ({
  isError: true, code, pluginName: 'plugin', message: expect.stringMatching(new RegExp(parts.map((part) => part.replace(/[.[\]]/g, '\\$&')).join('.*'))),
});

describe('one system call of the supervisor fails', () => {
  const CASES = [
    // call, errno, which of its calls in a start and a stop fail in turn
    ['openat', 'EMFILE', [1, 2, 4, 5, 8, 9]],
    ['mkdirat', 'ENOSPC', [1]],
    ['newfstatat', 'EIO', [1, 2, 3, 4, 5, 6, 7, 8]],
    ['flock', 'ENOLCK', [1]],
    ['ftruncate', 'EIO', [1]],
    ['socketpair', 'EMFILE', [1]],
    ['pipe2', 'EMFILE', [1, 2]],
    ['fcntl', 'EMFILE', [1, 2, 3, 4, 5]],
    ['epoll_ctl', 'ENOSPC', [1, 2, 3]],
    ['sendmsg', 'ETOOMANYREFS', [1]],
    ['socket', 'EMFILE', [1, 2]],
    ['connect', 'EAGAIN', [1, 2]],
    ['inotify_add_watch', 'ENOSPC', [1]],
    ['renameat', 'ENOSPC', [1, 2]],
    ['unlinkat', 'EIO', [1, 2, 3, 4, 5, 6]],
  ];

  /** Each in turn: the start fails with the errno's name and leaves nothing, or works and looks like any other. */
  async function sweep(owner, call, errno, turns, file, prepare = () => {}) {
    await goesOn(owner);
    const before = await descriptors(owner);
    for (const turn of turns) {
      const here = `${call} ${turn}`;
      await prepare();
      const fault = await inject(world, await thread(owner), [`${call}:error=${errno}:when=${turn}`], { file });
      const { error } = await owner.asks('startProcess', config());
      const { value: state } = await owner.asks('getState', 'plugin');
      if (error) {
        expect({ here, state, error }).toEqual({ here, state: 'error', error: { ...message('', errno), code: expect.stringMatching(/^ERR_(IO|SPAWN)$/) } });
        expect({ here, left: others(owner) }).toEqual({ here, left: [] });
      } else {
        const { value: pid } = await owner.asks('getPid', 'plugin');
        const files = ['daemon.pid', 'daemon.id', 'daemon.lock'].map((name) => fs.existsSync(path.join(world.folder('plugin'), name)) && fs.readFileSync(path.join(world.folder('plugin'), name), 'utf8'));
        const { start } = stat(pid);
        expect({ here, state, files }).toEqual({ here, state: 'running', files: [
          `${pid}\n`,
          expect.stringMatching(`^ally-daemon 1\npid ${pid}\nstart ${start}\nboot [0-9a-f-]+ pid:`),
          expect.stringMatching(`^owner ${owner.pid} ${stat(owner.pid).start} `),
        ] });
      }
      expect({ here, stop: await owner.asks('stopProcess', 'plugin') }).toEqual({ here, stop: {} });
      expect({ here, left: others(owner) }).toEqual({ here, left: [] });
      await fault.stop();
      expect({ here, injected: fault.injected() }).toEqual({ here, injected: 1 });
      await goesOn(owner);
    }
    await until(async () => (await descriptors(owner)) <= before, 5_000, 'no descriptor is lost');
    await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
  }

  testWith('strace').each(CASES)('%s: %s', async (call, errno, turns) => {
    await sweep(obedient(), call, errno, turns);
  });

  const goneGuardian = (owner) => async () => {
    process.kill((await guardianOf(owner)).pid, 'SIGKILL');
    await until(() => children(owner.pid).length === 0 && zombies(owner.pid).length === 0);
  };

  testWith('strace').each([
    ['socketpair', 'EMFILE', [2], null],
    ['openat', 'EMFILE', [1, 2], '/dev/null'],
    ['clone,clone3', 'EAGAIN', [1], null],
  ])('%s: %s, while the guardian is made', async (call, errno, turns, file) => {
    const owner = obedient();
    await sweep(owner, call, errno, turns, file, goneGuardian(owner));
  });

  testWith('strace').each([
    // The owner's own start time isn't known: its note says 0, and another owner takes it for dead.
    ['openat', 'EMFILE', [3], null],
    // The leader's start time, or the boot, isn't known: it runs on without daemon.pid and daemon.id.
    ['openat', 'EMFILE', [6], null],
    ['openat', 'EMFILE', [7], null],
    // The namespace isn't known: what daemon.id says of the boot fits nothing later.
    ['readlink', 'EACCES', [1], null],
  ])('%s: %s, where an identity is looked up: %j', async (call, errno, turns, file) => {
    await sweep(obedient(), call, errno, turns, file);
  });

  testWith('strace')('epoll_ctl: ENOSPC, while the guardian is made, leaves no zombie', async () => {
    const owner = obedient();
    const prepare = goneGuardian(owner);
    await goesOn(owner);
    let refused = 0;
    // Which of these calls is the guardian's depends on what else is let go of.
    for (let turn = 4; turn <= 8; turn++) {
      await prepare();
      const fault = await inject(world, await thread(owner), [`epoll_ctl:error=ENOSPC:when=${turn}`]);
      const { error } = await owner.asks('startProcess', config());
      if (error) {
        expect(error).toEqual(message('ERR_SPAWN', 'guardian', 'ENOSPC'));
        refused++;
      }
      await owner.asks('stopProcess', 'plugin');
      await fault.stop();
      await until(() => zombies(owner.pid).length === 0, 1_000, 'no zombie is left');
      await goesOn(owner);
    }
    expect(refused).toBeGreaterThan(0);
  });
});

describe('one system call of the guardian or a keeper fails', () => {
  testWith('strace').each([
    // call, errno, whether keepers count, what the start says; null: it works, by another guardian
    ['recvmsg', 'ENOMEM', false, null],
    ['recvfrom', 'ENOMEM', false, null],
    ['mmap', 'ENOMEM', false, null],
    ['clone,clone3', 'EAGAIN', false, 'EAGAIN'],
    ['pipe2', 'EMFILE', true, 'EMFILE'],
    ['setsid', 'EPERM', true, 'EPERM'],
    ['chdir', 'EIO', true, 'EIO'],
    ['openat', 'EMFILE', true, 'EMFILE'],
    ['dup2,dup3', 'EMFILE', true, 'EMFILE'],
  ])('%s: %s', async (call, errno, follow, expected) => {
    const owner = obedient();
    await goesOn(owner);
    const fault = await inject(world, (await guardianOf(owner)).pid, [`${call}:error=${errno}:when=1`], { follow });
    const { error } = await owner.asks('startProcess', config());
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
    if (expected) {
      expect(error).toEqual(message('ERR_SPAWN', expected));
      expect(others(owner)).toEqual([]);
    } else {
      expect(error).toBeUndefined();
    }
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    await goesOn(owner);
    await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
  });

  testWith('strace')('the keeper can make no process', async () => {
    const owner = obedient();
    await goesOn(owner);
    // Counted for each process: the second order passes the guardian, and fails in its keeper.
    const fault = await inject(world, (await guardianOf(owner)).pid, ['clone,clone3:error=EAGAIN:when=1'], { follow: true });
    for (let order = 1; order <= 2; order++) {
      expect((await owner.asks('startProcess', config())).error).toEqual(message('ERR_SPAWN', 'EAGAIN'));
      expect(others(owner)).toEqual([]);
      expect(fault.injected()).toBe(order);
    }
    expect(new Set(fault.calls().map((line) => line.split(' ')[0])).size).toBe(2);
    await fault.stop();
    await goesOn(owner);
  });

  const KINDS = ['stubborn', 'willing', 'grouped', 'fled'];

  async function withFamily(owner, changes) {
    const marker = world.path('family');
    expect(await owner.asks('startProcess', config('plugin', ['family.py', marker, ...KINDS], changes))).toEqual({});
    const leader = identify((await owner.asks('getPid', 'plugin')).value);
    const family = Object.values(await world.family(marker));
    return { leader, tree: [leader, ...family], keeper: between(owner, leader)[0] };
  }

  testWith('strace').each([
    // On an old kernel: by kill(2), after another look.
    ['pidfd_open:error=ENOSYS', 4],
    ['pidfd_open:error=EPERM', 4],
    // SIGTERM reaches nobody the first time; SIGKILL is sent again and again.
    ['pidfd_open:error=EMFILE:when=1..8', 8],
    ['pidfd_open:error=ENFILE:when=1..12', 12],
    ['pidfd_send_signal:error=EPERM:when=1..12', 12],
  ])('a whole tree is stopped in spite of %s', async (injection, atLeast) => {
    const owner = obedient();
    const { tree, keeper } = await withFamily(owner);
    const fault = await inject(world, keeper.pid, [injection]);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(tree.filter(alive)).toEqual([]);
    await fault.stop();
    expect(fault.injected()).toBeGreaterThanOrEqual(atLeast);
    await goesOn(owner);
  });

  testWith('strace')('what a killed keeper has left is swept by the guardian without pidfds', async () => {
    const owner = obedient();
    const { tree, keeper } = await withFamily(owner, { restart: { delay: 0 } });
    const fault = await inject(world, (await guardianOf(owner)).pid, ['pidfd_open:error=ENOSYS']);
    signal(keeper, 'SIGKILL');
    await until(() => !tree.some(alive));
    await owner.asks('reached', 'plugin', 'running');
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  });

  testWith('strace')('what refuses to die for good is named, and not waited for', async () => {
    const owner = obedient();
    const { tree, leader, keeper } = await withFamily(owner, { shutdownGracePeriod: 50 });
    const record = fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8');
    const fault = await inject(world, keeper.pid, ['pidfd_send_signal:error=EPERM']);
    const began = performance.now();
    const { error } = await owner.asks('stopProcess', 'plugin');
    expect(performance.now() - began).toBeLessThan(4_000);
    expect(error).toEqual(message('ERR_STOP_FAILED', String(leader.pid)));
    for (const { pid } of tree) expect(error.message).toContain(String(pid));
    expect((await owner.asks('getState', 'plugin')).value).toBe('error');
    expect(tree.every(alive)).toBe(true);
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${leader.pid}\n`);
    expect(fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8')).toBe(record);
    // A second daemon beside the first one there is not.
    expect((await owner.asks('startProcess', config())).error).toEqual(message('ERR_ALREADY_RUNNING'));

    await fault.stop();
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(tree.filter(alive)).toEqual([]);
    await goesOn(owner);
  });
});

describe('what a dead owner left', () => {
  /** Killed with all that stood between it and its daemon: what is left of the tree has nobody. */
  async function orphans() {
    const marker = world.path('family');
    const owner = world.owner('starts.js', { configs: [config('plugin', ['family.py', marker, 'stubborn', 'grouped'])] });
    const leader = identify((await owner.says('ready')).plugin);
    const doomed = [identify(owner.pid), ...between(owner, leader)];
    const family = Object.values(await world.family(marker));
    for (const name of ['SIGSTOP', 'SIGKILL']) for (const process of doomed) signal(process, name);
    await until(() => ![...doomed, leader].some(alive));
    await owner.exited;
    expect(family.every(alive)).toBe(true);
    return family;
  }

  async function ready() {
    const owner = obedient();
    await goesOn(owner, 'warm');
    return owner;
  }

  testWith('strace')('is stopped without pidfds', async () => {
    const [left, owner] = [await orphans(), await ready()];
    const fault = await inject(world, await thread(owner), ['pidfd_open:error=ENOSYS']);
    expect(await owner.asks('startProcess', config())).toEqual({});
    expect(left.filter(alive)).toEqual([]);
    await fault.stop();
    expect(fault.injected()).toBeGreaterThanOrEqual(2);
  });

  testWith('strace')('is stopped without descriptors for it', async () => {
    const [left, owner] = [await orphans(), await ready()];
    const fault = await inject(world, await thread(owner), ['pidfd_open:error=EMFILE:when=1']);
    expect(await owner.asks('startProcess', config())).toEqual({});
    expect(left.filter(alive)).toEqual([]);
    await fault.stop();
  });

  testWith('strace')('is not forgotten by a start that cannot read its identity', async () => {
    const [left, owner] = [await orphans(), await ready()];
    world.finally(() => left.forEach((process) => signal(process, 'SIGKILL')));
    const fault = await inject(world, await thread(owner), ['openat:error=EMFILE:when=4']);
    await owner.asks('startProcess', config());
    expect(fault.calls().find((line) => line.includes('INJECTED'))).toContain('daemon.id');
    await fault.stop();
    await owner.asks('stopProcess', 'plugin');
    await goesOn(owner);
    expect(left.filter(alive)).toEqual([]);
  });

  testWith('strace')('that refuses to die is named, and its identity stays', async () => {
    const [left, owner] = [await orphans(), await ready()];
    const fault = await inject(world, await thread(owner), ['pidfd_send_signal:error=EPERM']);
    const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { shutdownGracePeriod: 50 }));
    expect(error.code).toBe('ERR_STOP_FAILED');
    for (const { pid } of left) expect(error.message).toContain(String(pid));
    expect(fs.existsSync(path.join(world.folder('plugin'), 'daemon.id'))).toBe(true);
    await fault.stop();
    await goesOn(owner);
    expect(left.filter(alive)).toEqual([]);
  });
});

describe('an owner that ends by itself', () => {
  test.each(['starts.js', 'in-worker.js'])('a start elsewhere waits until its trees are gone: %s', async (script) => {
    const marker = world.path('family');
    const owner = world.owner(script, {
      configs: [config('plugin', ['family.py', marker, 'stubborn', 'fled'], { shutdownGracePeriod: 600 })], end: script === 'starts.js' ? 'return' : 'terminate',
    });
    const family = Object.values(await world.family(marker));
    const leader = identify((await owner.says('ready')).plugin);
    await (script === 'starts.js' ? owner.exited : owner.says('terminated'));
    await world.manager().startProcess(config());
    expect([leader, ...family].filter(alive)).toEqual([]);
  });

  test('and keeps its daemons: the whole tree is replaced', async () => {
    const marker = world.path('family');
    const owner = world.owner('starts.js', {
      options: { onOwnerDeath: 'keep' }, configs: [config('plugin', ['family.py', marker, 'stubborn', 'fled'])], end: 'return',
    });
    const family = Object.values(await world.family(marker));
    world.finally(() => family.forEach((process) => signal(process, 'SIGKILL')));
    await owner.exited;
    await world.manager().startProcess(config());
    expect(family.filter(alive)).toEqual([]);
  });
});

describe('nothing tells of a new socket', () => {
  testWith('strace').each(['inotify_init1:error=EMFILE', 'inotify_add_watch:error=ENOSPC'])('%s: a start looks for itself', async (injection) => {
    const owner = obedient();
    // Makes the thread, and needs no watch yet.
    expect((await owner.asks('startProcess', config('other', [], { command: '/no/such' }))).error.code).toBe('ERR_SPAWN');
    const fault = await inject(world, await thread(owner), [injection]);
    const start = owner.asks('startProcess', config('plugin', ['listens-late.py', world.path('go')]));
    await until(() => fs.existsSync(world.socket('plugin')));
    fs.writeFileSync(world.path('go'), '');
    expect(await start).toEqual({});
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
    await goesOn(owner);
  });
});

describe('connect says EAGAIN', () => {
  testWith('strace')('a start and a health check try again', async () => {
    const owner = obedient();
    await goesOn(owner);
    const fault = await inject(world, await thread(owner), ['connect:error=EAGAIN:when=1..40']);
    expect(await owner.asks('startProcess', config('plugin', ['willing.py'], {
      healthcheck: { interval: 20, timeout: 5_000, retries: 1 }, restart: { maxAttempts: 0 },
    }))).toEqual({});
    await until(() => fault.calls().length > 45);
    expect(fault.injected()).toBe(40);
    await fault.stop();
    expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({ state: 'running', failedHealthChecks: 0, totalRestarts: 0 });
  });

  testWith('strace')('a daemon that keeps saying so is replaced within its retries', async () => {
    const owner = obedient();
    await goesOn(owner);
    expect(await owner.asks('startProcess', config('plugin', ['willing.py'], {
      healthcheck: { interval: 20, timeout: 100, retries: 2 }, restart: { delay: 0 },
    }))).toEqual({});
    const first = identify((await owner.asks('getPid', 'plugin')).value);
    const fault = await inject(world, await thread(owner), ['connect:error=EAGAIN']);
    await until(() => !alive(first));
    await fault.stop();
    await owner.asks('reached', 'plugin', 'running');
    expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({ state: 'running', totalRestarts: expect.any(Number) });
  });
});

describe('a daemon that changed its user', () => {
  testWith('root', 'another user that can load the package')('is named by a stop, and not waited for; once it is gone the name is free', async () => {
    // A setuid program, as sudo is one: what comes of it can't be signalled by the user who started it.
    const change = world.path('setpriv');
    fs.copyFileSync('/usr/bin/setpriv', change);
    fs.chmodSync(change, 0o4755);
    for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
    const [, ...words] = as(ANOTHER);
    const serve = `const net = require('net'); process.umask(0); net.createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH); setTimeout(() => {}, 60_000)`;
    const owner = obedient({}, { before: as(SOMEBODY) });
    expect(await owner.asks('startProcess', config('plugin', [], {
      command: change, args: [...words, process.execPath, '-e', serve], socketPath: world.path('s'), shutdownGracePeriod: 50,
    }))).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    world.finally(() => signal(daemon, 'SIGKILL'));
    expect(fs.statSync(`/proc/${daemon.pid}`).uid).toBe(Number(ANOTHER));

    const { error } = await owner.asks('stopProcess', 'plugin');
    expect(error).toEqual(message('ERR_STOP_FAILED', String(daemon.pid)));
    expect((await owner.asks('getState', 'plugin')).value).toBe('error');
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${daemon.pid}\n`);
    signal(daemon, 'SIGKILL');
    await until(() => !fs.existsSync(world.pidFile('plugin')));
    fs.rmSync(world.path('s'), { force: true });
    await goesOn(owner, 'plugin', { socketPath: world.path('t'), command: process.execPath, args: ['-e', serve] });
  });
});

describe('a file system of sixteen pages', () => {
  /** An owner that sees one at `envsDir`, in a namespace of its own; it goes with the owner. */
  async function small(order) {
    fs.mkdirSync(world.envsDir, { mode: 0o700 });
    const mount = 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" && exec "$@"';
    const owner = obedient(order, { before: ['unshare', '-m', '/bin/sh', '-c', mount, world.envsDir] });
    const filler = path.join(world.envsDir, 'filler');
    return { owner, leave: (pages) => owner.asks('write', filler, (16 - pages) * 4096), clear: () => owner.asks('remove', filler), filler };
  }
  const outside = () => ({ socketPath: world.path('s') });

  testWith('namespaces of its own').each([[0, 'daemon.lock'], [1, 'daemon.id'], [2, 'daemon.pid']])('with %d free: no %s, nothing left running, and no half of a file', async (pages, name) => {
    const { owner, leave, clear } = await small();
    expect(await leave(pages)).toEqual({});
    const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], outside()));
    expect(error).toEqual(message('ERR_IO', world.folder('plugin'), name, 'ENOSPC'));
    expect(others(owner)).toEqual([]);
    expect((await owner.asks('list', world.folder('plugin'))).value).toEqual(['daemon.lock']);
    await clear();
    await goesOn(owner, 'plugin', outside());
  });

  testWith('namespaces of its own')('that is read-only', async () => {
    const { owner } = await small();
    const remount = async (how) => expect(await owner.asks('run', 'mount', '-o', `remount,${how}`, world.envsDir)).toEqual({ value: '' });
    await remount('ro');
    expect((await owner.asks('startProcess', config('plugin', ['willing.py'], outside()))).error).toEqual(message('ERR_IO', world.folder('plugin'), 'EROFS'));
    expect(others(owner)).toEqual([]);
    await remount('rw');
    await goesOn(owner, 'plugin', outside());
    await remount('ro');
    expect((await owner.asks('startProcess', config('plugin', ['willing.py'], outside()))).error).toEqual(message('ERR_IO', 'daemon.lock', 'EROFS'));
    await remount('rw');
    await goesOn(owner, 'plugin', outside());
  });

  testWith('namespaces of its own')('that has no place for the folders above it either', async () => {
    const { owner } = await small({ envsDir: path.join(world.envsDir, 'a', 'b') });
    await owner.asks('run', 'mount', '-o', 'remount,ro', world.envsDir);
    expect((await owner.asks('startProcess', config('plugin', ['willing.py'], outside()))).error).toEqual(message('ERR_IO', path.join(world.envsDir, 'a', 'b'), 'EROFS'));
  });
});

describe('out of descriptors', () => {
  const few = ['prlimit', '--nofile=96:96'];

  testWith('root').each([['warm', true], ['cold', false]])('with any number of them a start works or says so: %s', async (_, warm) => {
    const owner = obedient({}, { before: few });
    if (warm) await goesOn(owner);
    let works = 0;
    for (let free = 0; works < 2; free++) {
      expect(free).toBeLessThan(40);
      const { value: { error, state } } = await owner.asks('startWith', free, config());
      if (error) {
        // Where not even the supervisor's thread could be made, nothing is known of the plugin.
        expect(['error', ...(warm ? [] : [undefined])]).toContain(state);
        expect({ free, error }).toEqual({ free, error: { ...message('', 'EMFILE'), code: expect.stringMatching(/^ERR_(IO|SPAWN)$/) } });
        expect({ free, left: others(owner) }).toEqual({ free, left: [] });
      } else {
        works++;
        const { value: pid } = await owner.asks('getPid', 'plugin');
        expect({ free, pid: fs.readFileSync(world.pidFile('plugin'), 'utf8') }).toEqual({ free, pid: `${pid}\n` });
      }
      expect({ free, stop: await owner.asks('stopProcess', 'plugin') }).toEqual({ free, stop: {} });
    }
    await goesOn(owner);
  });

  testWith('strace')('a healthy daemon is not replaced because its owner has none left', async () => {
    const owner = obedient();
    expect(await owner.asks('startProcess', config('plugin', ['willing.py'], {
      healthcheck: { interval: 20, timeout: 200, retries: 2 }, restart: { delay: 0 },
    }))).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    const fault = await inject(world, await thread(owner), ['socket:error=EMFILE']);
    await until(() => fault.injected() >= 6 || !alive(daemon));
    await fault.stop();
    await owner.asks('reached', 'plugin', 'running');
    expect(alive(daemon)).toBe(true);
  });
});

describe('the disk is full at a restart', () => {
  testWith('strace')('it is tried again, and works once there is room', async () => {
    const owner = obedient();
    expect(await owner.asks('startProcess', config('plugin', ['willing.py'], {
      restart: { delay: 10, backoff: 'constant', maxAttempts: 1_000, window: { limit: 10_000, period: 1_000 } },
    }))).toEqual({});
    const first = identify((await owner.asks('getPid', 'plugin')).value);
    const fault = await inject(world, await thread(owner), ['write:error=ENOSPC'], { file: path.join(world.folder('plugin'), '.daemon.pid.new') });
    signal(first, 'SIGKILL');
    await until(async () => {
      const { value } = await owner.asks('getProcessInfo', 'plugin');
      return value.restartAttempts >= 3 && value.lastError.includes('ENOSPC');
    });
    await fault.stop();
    await owner.asks('reached', 'plugin', 'running');
    expect(fault.injected()).toBeGreaterThanOrEqual(2);
    const { value: pid } = await owner.asks('getPid', 'plugin');
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(others(owner)).toEqual([]);
  });
});

describe('the home of the files', () => {
  testWith('another user that can load the package')('is made below HOME, for nobody else', async () => {
    const home = world.path('home');
    const owner = obedient({ late: true }, { env: { HOME: home } });
    expect(await owner.asks('make')).toEqual({});
    await goesOn(owner, 'plugin', { socketPath: world.path('s') });
    const folder = path.join(home, '.ally', 'plugin-envs', 'plugin');
    expect(fs.readdirSync(folder)).toEqual(['daemon.lock']);
    for (let made = folder; made !== world.dir; made = path.dirname(made)) expect([made, fs.statSync(made).mode & 0o777]).toEqual([made, 0o700]);
  });

  testWith('another user that can load the package')('is asked for where neither HOME nor the user database tells it', async () => {
    const owner = obedient({ late: true }, { before: [...as(SOMEBODY), 'env', '-u', 'HOME'] });
    const { error } = await owner.asks('make');
    expect(error).toMatchObject({ isError: true, code: 'ERR_INVALID_CONFIG', message: expect.stringContaining('envsDir') });
  });

  test('is not a relative HOME', async () => {
    const owner = obedient({ late: true }, { env: { HOME: 'relative' } });
    expect((await owner.asks('make')).error).toMatchObject({ isError: true, code: 'ERR_INVALID_CONFIG', message: expect.stringContaining('HOME') });
  });

  testWith('another user that can load the package')('without any HOME can be told', async () => {
    fs.chmodSync(world.dir, 0o777);
    const owner = obedient({ late: true }, { before: [...as(SOMEBODY), 'env', '-u', 'HOME'] });
    expect(await owner.asks('make', { envsDir: world.envsDir })).toEqual({});
    fs.chmodSync(world.pluginPath, 0o777);
    const serve = `process.umask(0); require('net').createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH); setTimeout(() => {}, 60_000)`;
    await goesOn(owner, 'plugin', { command: process.execPath, args: ['-e', serve] });
  });

  const precious = (file) => {
    const { uid, mode, ino } = fs.lstatSync(file);
    return { uid, mode, ino, files: fs.readdirSync(file) };
  };

  testWith('root')("that another user owns: the plugin's folder is refused and left as it is", async () => {
    const folder = world.makeFolder('plugin');
    fs.chownSync(folder, Number(SOMEBODY), Number(SOMEBODY));
    const before = precious(folder);
    const owner = obedient();
    const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path('s') }));
    expect(error).toEqual(message('ERR_IO', folder, SOMEBODY));
    expect(precious(folder)).toEqual(before);
    expect(others(owner)).toEqual([]);
    fs.chownSync(folder, 0, 0);
    await goesOn(owner);
  });

  testWith('another user that can load the package')('that another user owns: nothing can be made there', async () => {
    fs.mkdirSync(world.envsDir, { mode: 0o755 });
    fs.chmodSync(world.dir, 0o777);
    const owner = obedient({}, { before: as(SOMEBODY) });
    const { error } = await owner.asks('startProcess', config('plugin', [], { command: '/bin/true', socketPath: world.path('s') }));
    expect(error).toEqual(message('ERR_IO', world.folder('plugin'), 'EACCES'));
    expect(fs.readdirSync(world.envsDir)).toEqual([]);
  });

  test('and all in it is ours alone, whatever the umask', async () => {
    for (const [umask, name] of [['0', 'open'], ['077', 'shut']]) {
      const owner = obedient({ envsDir: world.path(name) }, { before: ['/bin/sh', '-c', `umask ${umask}; exec "$@"`, 'sh'] });
      expect(await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path(`${name}.sock`) }))).toEqual({});
      const folder = world.path(name, 'plugin');
      for (const [file, mode] of [['', 0o700], ['daemon.pid', 0o600], ['daemon.id', 0o600], ['daemon.lock', 0o600]]) {
        expect([name, file, fs.statSync(path.join(folder, file)).mode & 0o777]).toEqual([name, file, mode]);
      }
      expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    }
  });
});

describe('what is in the place of a file of ours', () => {
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
    'a folder': (place) => fs.mkdirSync(place),
    'a pipe': (place) => require('node:child_process').execFileSync('mkfifo', [place]),
  };

  const look = (target) => {
    const found = fs.lstatSync(target, { throwIfNoEntry: false });
    return found && { mode: found.mode, size: found.size, mtime: found.mtimeMs, text: found.isFile() ? fs.readFileSync(target, 'utf8') : fs.readdirSync(target) };
  };

  test.each(Object.keys(things))('%s is replaced or refused, and never followed', async (kind) => {
    const owner = obedient();
    for (const name of FILES) {
      const [place, target] = [path.join(world.makeFolder('plugin'), name), world.path(`target-${name}`)];
      things[kind](place, target);
      const before = look(target);
      const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path('s') }));
      if (error) {
        expect({ name, error }).toEqual({ name, error: message('ERR_IO', name.replace(/^\.|\.new$/g, '')) });
        expect({ name, left: others(owner) }).toEqual({ name, left: [] });
      } else {
        expect({ name, file: fs.lstatSync(world.pidFile('plugin')).isFile() }).toEqual({ name, file: true });
      }
      expect({ name, ...(await owner.asks('stopProcess', 'plugin')) }).toEqual({ name });
      expect({ name, target: look(target) }).toEqual({ name, target: before });
      fs.rmSync(world.folder('plugin'), { recursive: true });
    }
    await goesOn(owner);
  });

  test("a link in the place of the plugin's folder is refused, wherever it leads", async () => {
    const owner = obedient();
    fs.mkdirSync(world.envsDir);
    fs.mkdirSync(world.path('elsewhere'));
    for (const target of [world.path('elsewhere'), world.path('nowhere'), '/dev/null', 'plugin']) {
      fs.symlinkSync(target, world.folder('plugin'));
      const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path('s') }));
      expect({ target, error }).toEqual({ target, error: message('ERR_IO', world.folder('plugin'), 'link') });
      fs.unlinkSync(world.folder('plugin'));
    }
    expect(fs.readdirSync(world.path('elsewhere'))).toEqual([]);
    expect(fs.existsSync(world.path('nowhere'))).toBe(false);
    await goesOn(owner);
  });
});

describe('the guardian', () => {
  const broken = {
    'is missing': [(file) => fs.rmSync(file), 'ENOENT'],
    'may not be run': [(file) => fs.chmodSync(file, 0o644), 'EACCES'],
    'is a folder': [(file) => (fs.rmSync(file), fs.mkdirSync(file)), 'EACCES'],
    'is no program': [(file) => fs.writeFileSync(file, 'no program\n'), 'ENOEXEC'],
    'is empty': [(file) => fs.writeFileSync(file, ''), 'ENOEXEC'],
    'ends at once': [(file) => fs.writeFileSync(file, '#!/bin/sh\nexit 0\n'), 'guardian'],
    'is killed at once': [(file) => fs.writeFileSync(file, '#!/bin/sh\nkill -KILL $$\n'), 'guardian'],
  };

  test.each(Object.keys(broken))('%s: a start says so, and works once it is mended', async (how) => {
    const { copy, guardian } = copyPackage(world);
    const kept = `${guardian}.kept`;
    fs.copyFileSync(guardian, kept);
    const owner = obedient({ package: copy });
    const [harm, says] = broken[how];
    harm(guardian);
    for (let time = 0; time < 2; time++) {
      const { error } = await owner.asks('startProcess', config());
      expect(error).toEqual(message('ERR_SPAWN', says));
      if (says !== 'guardian') expect(error.message).toContain(guardian);
      expect((await owner.asks('getState', 'plugin')).value).toBe('error');
      expect(others(owner)).toEqual([]);
    }
    await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
    fs.rmSync(guardian, { recursive: true, force: true });
    fs.renameSync(kept, guardian);
    await goesOn(owner);
  });

  /** A guardian of nobody's making in its place, until `mend`. */
  function raving() {
    const { copy, guardian } = copyPackage(world);
    const kept = `${guardian}.kept`;
    fs.renameSync(guardian, kept);
    const raves = path.join(ROOT, '__tests__', 'fixtures', 'faults', 'raves.py');
    fs.writeFileSync(guardian, `#!/bin/sh\nexec '${process.env.TEST_PYTHON}' -S -E -B '${raves}'\n`, { mode: 0o755 });
    const owner = obedient({ package: copy });
    /** What was ordered there and never made is then ordered from a real one. */
    const mend = async () => {
      fs.renameSync(kept, guardian);
      for (const child of children(owner.pid)) signal(child, 'SIGKILL');
    };
    return { owner, mend };
  }

  test('and a keeper that say what they like are not believed, and nobody waits for them', async () => {
    const { owner, mend } = raving();
    // One order each; what raves.py answers goes by their number.
    const names = Array.from({ length: 24 }, (_, index) => `plugin-${index}`);
    const outcomes = await Promise.all(names.map((name) => owner.asks('startProcess', config(name, ['willing.py'], { startupTimeout: 400, shutdownGracePeriod: 50 }))));
    const codes = outcomes.map(({ error }) => error?.code ?? 'resolved');
    // Some of the orders are taken, and nothing is ever said.
    expect(codes).toContain('ERR_STARTUP_TIMEOUT');
    expect(codes.filter((code) => !/^ERR_(SPAWN|STARTUP_EXIT|STARTUP_TIMEOUT|IO)$/.test(code))).toEqual([]);
    await mend();
    expect(await Promise.all(names.map((name) => owner.asks('stopProcess', name)))).toEqual(names.map(() => ({})));
    expect(others(owner)).toEqual([]);
    await goesOn(owner);
  });
});

describe('two owners start the same name in the same instant', () => {
  const ROUNDS = Number(process.env.ALLY_RACES ?? 100);

  async function racing() {
    const owners = [0, 1].map(() => world.owner('../faults/races.js', { config: config() }, { ipc: true }));
    await Promise.all(owners.map((owner) => owner.says('ready')));
    return owners;
  }

  async function race(owners) {
    // Both spin until this moment.
    const at = performance.timeOrigin + performance.now() + 8;
    const outcomes = await Promise.all(owners.map((owner) => owner.asks('start', at)));
    return { outcomes, winner: outcomes.findIndex(({ value }) => value && !value.code) };
  }

  test(`${ROUNDS} times: one has it each time`, async () => {
    const owners = await racing();
    const wins = [0, 0];
    for (let round = 0; round < ROUNDS; round++) {
      const { winner, outcomes } = await race(owners);
      const loser = 1 - winner;
      const { pid } = outcomes[winner].value;
      expect({ round, loser: outcomes[loser].value }).toEqual({ round, loser: { code: 'ERR_OWNED_ELSEWHERE', pid: expect.any(Number) } });
      expect({ round, file: fs.readFileSync(world.pidFile('plugin'), 'utf8') }).toEqual({ round, file: `${pid}\n` });
      if (round % 20 === 0) expect(mentioning(world.dir).filter((found) => !owners.some((owner) => owner.pid === found.pid)).map((found) => found.pid)).toEqual([pid]);
      wins[winner]++;
      expect({ round, stop: await owners[winner].asks('stop') }).toEqual({ round, stop: { value: 'stopped' } });
    }
    // Otherwise they did not race.
    expect(Math.min(...wins)).toBeGreaterThan(0);
    if (ROUNDS > 100) console.log(`won ${wins[0]} to ${wins[1]}`);
  }, 20_000 + ROUNDS * 200);

  testWith('strace')('and the other one is told by whom it is owned', async () => {
    const [former, next] = [obedient(), obedient()];
    await goesOn(former);
    await goesOn(next, 'warm');
    // Half a second between the lock and its note.
    const fault = await inject(world, await thread(next), ['ftruncate:delay_enter=500000:when=1']);
    const start = next.asks('startProcess', config());
    const { ino } = fs.statSync(path.join(world.folder('plugin'), 'daemon.lock'));
    await until(() => fs.readFileSync('/proc/locks', 'utf8').includes(`:${ino} `));
    const { error } = await former.asks('startProcess', config());
    expect(await start).toEqual({});
    await fault.stop();
    expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: next.pid });
  });
});
