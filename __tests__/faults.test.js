'use strict';

// Faults of the system, put in one at a time: each ends in a clear error or in a slower path that works, and the
// manager goes on. strace makes system calls fail; where it is missing, those tests are skipped and say so.
// Here: the owner's system calls, sockets and descriptors.

const fs = require('node:fs');
const path = require('node:path');
const { useWorld } = require('./helpers/world');
const { alive, children, identify, signal, stat } = require('./helpers/processes');
const { until } = require('./helpers/until');
const { message, setting } = require('./fixtures/faults/setting');
const { inject, testWith, zombies } = require('./fixtures/faults/tools');

const world = useWorld();
const { obedient, config, goesOn, others, descriptors, thread, guardianOf } = setting(world);

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
    let injected = 0;
    for (const turn of turns) {
      const here = `${call} ${turn}`;
      await prepare();
      const fault = await inject(world, await thread(owner), [`${call}:error=${errno}:when=${turn}`], { file });
      const { error } = await owner.asks('startProcess', config());
      const { value: state } = await owner.asks('getState', 'plugin');
      if (error) {
        expect({ here, state, error }).toEqual({
          here,
          state: 'error',
          error: { ...message('', errno), code: expect.stringMatching(/^ERR_(IO|SPAWN)$/) },
        });
        expect({ here, left: others(owner) }).toEqual({ here, left: [] });
      } else {
        const { value: pid } = await owner.asks('getPid', 'plugin');
        const files = ['daemon.pid', 'daemon.id', 'daemon.lock'].map(
          (name) =>
            fs.existsSync(path.join(world.folder('plugin'), name)) && fs.readFileSync(path.join(world.folder('plugin'), name), 'utf8'),
        );
        const { start } = stat(pid);
        expect({ here, state, files }).toEqual({
          here,
          state: 'running',
          files: [
            `${pid}\n`,
            expect.stringMatching(`^ally-daemon 1\npid ${pid}\nstart ${start}\nboot [0-9a-f-]+ pid:`),
            expect.stringMatching(`^owner ${owner.pid} ${stat(owner.pid).start} `),
          ],
        });
      }
      expect({ here, stop: await owner.asks('stopProcess', 'plugin') }).toEqual({ here, stop: {} });
      expect({ here, left: others(owner) }).toEqual({ here, left: [] });
      await fault.stop();
      injected += fault.injected();
      await goesOn(owner);
    }
    // How often a call is made may depend on who is faster, owner or daemon; it is made at least once.
    expect({ call, injected: injected > 0 }).toEqual({ call, injected: true });
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
    // The owner's own start time, without which its note in the lock would name nobody.
    ['openat', 'EMFILE', [2], null],
    // The leader's start time and the boot, without which nobody could tell later whose daemon.id is.
    ['openat', 'EMFILE', [6], null],
    ['openat', 'EMFILE', [7], null],
    // Whose processes /proc shows, and in which namespace their numbers mean anything.
    ['readlink', 'EACCES', [1], null],
    ['readlink', 'EACCES', [2], null],
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

describe('an owner that ends by itself', () => {
  test.each(['starts.js', 'in-worker.js'])('a start elsewhere waits until its trees are gone: %s', async (script) => {
    const marker = world.path('family');
    const owner = world.owner(script, {
      configs: [config('plugin', ['family.py', marker, 'stubborn', 'fled'], { shutdownGracePeriod: 600 })],
      end: script === 'starts.js' ? 'return' : 'terminate',
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
      options: { onOwnerDeath: 'keep' },
      configs: [config('plugin', ['family.py', marker, 'stubborn', 'fled'])],
      end: 'return',
    });
    const family = Object.values(await world.family(marker));
    world.finally(() => family.forEach((process) => signal(process, 'SIGKILL')));
    await owner.exited;
    await world.manager().startProcess(config());
    expect(family.filter(alive)).toEqual([]);
  });
});

describe('an owner that was killed', () => {
  test('and a start with a shorter grace period: its trees have theirs, and that is waited for', async () => {
    const owner = world.owner('starts.js', { configs: [config('plugin', ['stubborn.py'], { shutdownGracePeriod: 3_000 })] });
    const leader = identify((await owner.says('ready')).plugin);
    owner.child.kill('SIGKILL');
    await owner.exited;
    expect(alive(leader)).toBe(true);
    const manager = world.manager();
    // By itself it would wait for two seconds.
    await manager.startProcess(config('plugin', ['willing.py'], { shutdownGracePeriod: 0 }));
    expect(alive(leader)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
  });
});

describe('nothing tells of a new socket', () => {
  testWith('strace').each(['inotify_init1:error=EMFILE', 'inotify_add_watch:error=ENOSPC'])(
    '%s: a start looks for itself',
    async (injection) => {
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
    },
  );
});

describe('connect says EAGAIN', () => {
  testWith('strace')('a start and a health check try again', async () => {
    const owner = obedient();
    await goesOn(owner);
    const fault = await inject(world, await thread(owner), ['connect:error=EAGAIN:when=1..40']);
    expect(
      await owner.asks(
        'startProcess',
        config('plugin', ['willing.py'], {
          healthcheck: { interval: 20, timeout: 5_000, retries: 1 },
          restart: { maxAttempts: 0 },
        }),
      ),
    ).toEqual({});
    await until(() => fault.calls().length > 45);
    expect(fault.injected()).toBe(40);
    await fault.stop();
    expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({
      state: 'running',
      failedHealthChecks: 0,
      totalRestarts: 0,
    });
  });

  testWith('strace')('a health check tries again within its timeout', async () => {
    const owner = obedient();
    expect(
      await owner.asks(
        'startProcess',
        config('plugin', ['willing.py'], {
          healthcheck: { interval: 20, timeout: 10_000, retries: 1 },
          restart: { maxAttempts: 0 },
        }),
      ),
    ).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    // It is ready, so only checks meet it, and the first of them all of it.
    const fault = await inject(world, await thread(owner), ['connect:error=EAGAIN:when=1..20']);
    await until(() => fault.calls().length > 25);
    await fault.stop();
    expect(fault.injected()).toBe(20);
    expect(alive(daemon)).toBe(true);
    expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({
      state: 'running',
      failedHealthChecks: 0,
      totalRestarts: 0,
    });
  });

  testWith('strace')('a daemon that keeps saying so is replaced within its retries', async () => {
    const owner = obedient();
    await goesOn(owner);
    expect(
      await owner.asks(
        'startProcess',
        config('plugin', ['willing.py'], {
          healthcheck: { interval: 20, timeout: 100, retries: 2 },
          restart: { delay: 0 },
        }),
      ),
    ).toEqual({});
    const first = identify((await owner.asks('getPid', 'plugin')).value);
    const fault = await inject(world, await thread(owner), ['connect:error=EAGAIN']);
    await until(() => !alive(first));
    await fault.stop();
    await owner.asks('reached', 'plugin', 'running');
    expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({ state: 'running', totalRestarts: expect.any(Number) });
  });
});

describe('out of descriptors', () => {
  const few = ['prlimit', '--nofile=96:96'];

  testWith('root').each([
    ['warm', true],
    ['cold', false],
  ])('with any number of them a start works or says so: %s', async (_, warm) => {
    const owner = obedient({}, { before: few });
    if (warm) await goesOn(owner);
    let works = 0;
    for (let free = 0; works < 2; free++) {
      expect(free).toBeLessThan(40);
      const {
        value: { error, state },
      } = await owner.asks('startWith', free, config());
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
    expect(
      await owner.asks(
        'startProcess',
        config('plugin', ['willing.py'], {
          healthcheck: { interval: 20, timeout: 200, retries: 2 },
          restart: { delay: 0 },
        }),
      ),
    ).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    const fault = await inject(world, await thread(owner), ['socket:error=EMFILE']);
    await until(() => fault.injected() >= 6 || !alive(daemon));
    await fault.stop();
    await owner.asks('reached', 'plugin', 'running');
    expect(alive(daemon)).toBe(true);
  });

  testWith('strace').each([
    ['the connection', 'AF_UNIX', 'socket:error=EMFILE'],
    // Every other one: the connection is made, and what the kernel is asked by is not.
    ['the question whether it was taken', 'AF_NETLINK', 'socket:error=EMFILE:when=2+2'],
  ])('probe accept waits with its word until there is one for %s, and goes on', async (_, family, injection) => {
    const owner = obedient({ logged: true });
    expect(
      await owner.asks(
        'startProcess',
        config('plugin', ['silent.py'], {
          healthcheck: { interval: 20, timeout: 500, retries: 2, probe: { type: 'accept' } },
          restart: { delay: 0 },
        }),
      ),
    ).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    const fault = await inject(world, await thread(owner), [injection]);
    const failed = () => fault.calls().filter((line) => line.includes('(INJECTED)') && line.includes(family)).length;
    await until(() => failed() >= 6 || !alive(daemon));
    expect(alive(daemon)).toBe(true);
    expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({
      state: 'running',
      failedHealthChecks: 0,
      totalRestarts: 0,
    });
    await fault.stop();
    // One check, that was tried again and again, and a warning.
    expect((await owner.asks('records')).value.filter((line) => line.includes("can't be made"))).toHaveLength(1);
    // The checks go on: this is what they find.
    signal(daemon, 'SIGSTOP');
    await until(() => !alive(daemon));
    await owner.asks('reached', 'plugin', 'running');
  });
});
