'use strict';

const fs = require('node:fs');
const { connects, record, useWorld } = require('./helpers/world');
const { alive, ancestors, children, descendants, identify, signal, stat, testOnLinux } = require('./helpers/processes');
const { failure, until } = require('./helpers/until');

const world = useWorld();

const GRACE = 500;
/** Promised for the daemons: two seconds and the grace period. A second more for the guardian. */
const DAEMONS_GONE = GRACE + 2_000;
const KINDS = ['stubborn', 'fled', 'grouped'];

/** An owner with a whole family to leave behind, at the moment that its order names. */
async function owned(order = {}, { script = 'starts.js', fixture = KINDS, ...options } = {}) {
  const marker = world.path('family');
  const owner = world.owner(
    script,
    {
      after: marker,
      configs: [world.config('plugin', ['family.py', marker, ...fixture], { shutdownGracePeriod: GRACE, startupTimeout: 20_000 })],
      ...order,
    },
    options,
  );
  const family = await world.family(marker);
  const { plugin } = await owner.says('ready');
  return { owner, family: Object.values(family), leader: identify(plugin) };
}

/** Everything that the owner brought into the world, the guardian too. Of an owner that is still alive. */
function brood(owner, leader) {
  const above = stat(owner.pid) ? ancestors(owner.pid).map(({ pid }) => pid) : [];
  const found = [...descendants(owner.pid), ...ancestors(leader.pid)];
  return found.filter(({ pid }) => pid !== owner.pid && pid !== process.pid && !above.includes(pid));
}

async function expectGone(processes, deadline) {
  const began = performance.now();
  await until(() => !processes.some(alive), deadline + 5_000);
  // Room for a test machine whose two cores are busy; the promise itself is the deadline.
  expect(performance.now() - began).toBeLessThan(deadline + 500);
}

describe('however the owner ends, its trees go', () => {
  test.each([
    ['returns', 'return', { code: 0, signal: null }],
    ['calls process.exit', 'exit', { code: 3, signal: null }],
    ['throws', 'throw', { code: 1, signal: null }],
    ['leaves a rejection unhandled', 'reject', { code: 1, signal: null }],
    ['aborts', 'abort', { code: null, signal: 'SIGABRT' }],
  ])('when it %s', async (_, end, expected) => {
    const { owner, family, leader } = await owned({ end });
    // It dies as it would without us.
    expect(await owner.exited).toEqual(expected);
    await expectGone([leader, ...family], DAEMONS_GONE);
    if (end === 'throw') expect(owner.errors).toContain('thrown on purpose');
    if (end === 'reject') expect(owner.errors).toContain('rejected on purpose');
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'])('when it gets %s', async (name) => {
    const { owner, family, leader } = await owned();
    const all = brood(owner, leader);
    expect(all.length).toBeGreaterThan(family.length);
    owner.child.kill(name);
    expect(await owner.exited).toEqual({ code: null, signal: name });
    await expectGone([leader, ...family], DAEMONS_GONE);
    // The guardian has nothing left to watch.
    await expectGone(all, 1_000);
  });

  test('when its whole process group is killed', async () => {
    const { owner, family, leader } = await owned({}, { detached: true });
    const all = brood(owner, leader);
    process.kill(-owner.pid, 'SIGINT');
    expect(await owner.exited).toEqual({ code: null, signal: 'SIGINT' });
    await expectGone([leader, ...family], DAEMONS_GONE);
    await expectGone(all, 1_000);
  });

  test('when its whole process group is killed by SIGKILL', async () => {
    const { owner, family, leader } = await owned({}, { detached: true });
    process.kill(-owner.pid, 'SIGKILL');
    await owner.exited;
    await expectGone([leader, ...family], DAEMONS_GONE);
  });

  test('and the record of what they were, since nobody else may be there to remove it', async () => {
    const { owner, leader } = await owned();
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${leader.pid}\n`);
    owner.child.kill('SIGKILL');
    await owner.exited;
    const record = () => fs.readdirSync(world.folder('plugin')).filter((name) => /^daemon\.(pid|id)$/.test(name));
    await until(() => record().length === 0);
    expect(alive(leader)).toBe(false);
  });

  test('and the record of one that ended in the last moment, when the owner has not yet heard of it', async () => {
    const { owner, family, leader } = await owned();
    const pidFile = world.pidFile('plugin');
    expect(fs.existsSync(pidFile)).toBe(true);
    owner.child.kill('SIGSTOP');
    await until(() => stat(owner.pid).state === 'T');
    for (const process of [leader, ...family]) signal(process, 'SIGKILL');
    await until(() => !fs.existsSync(pidFile));
    owner.child.kill('SIGKILL');
    await owner.exited;
  });

  test('while the daemon is starting', async () => {
    const { owner, family, leader } = await owned({ when: 'starting' }, { fixture: ['--never-bind', ...KINDS] });
    const all = brood(owner, leader);
    owner.child.kill('SIGKILL');
    await owner.exited;
    await expectGone([leader, ...family], DAEMONS_GONE);
    await expectGone(all, 1_000);
  });

  test('while the daemon is stopping', async () => {
    const { owner, family, leader } = await owned({ when: 'stopping' });
    owner.child.kill('SIGKILL');
    await owner.exited;
    await expectGone([leader, ...family], DAEMONS_GONE);
  });

  test('by its own exit while the daemon is starting', async () => {
    const { owner, family, leader } = await owned({ when: 'starting', end: 'exit' }, { fixture: ['--never-bind', ...KINDS] });
    expect(await owner.exited).toEqual({ code: 3, signal: null });
    await expectGone([leader, ...family], DAEMONS_GONE);
  });

  test('in the moment of the start, before anything is known of it', async () => {
    // Twelve plugins, and an owner that is killed as soon as one of them has a pid.
    const configs = Array.from({ length: 12 }, (_, index) =>
      world.config(`plugin-${index}`, ['willing.py'], { shutdownGracePeriod: GRACE }),
    );
    const owner = world.owner('starts.js', { configs });
    await until(() => configs.some(({ pluginName }) => fs.existsSync(world.pidFile(pluginName))));
    const found = descendants(owner.pid);
    owner.child.kill('SIGKILL');
    await owner.exited;
    await expectGone(found, DAEMONS_GONE + 1_000);
    // What was under way comes to nothing: the world itself looks for it when the test ends.
    await until(() => configs.every(({ socketPath }) => !fs.existsSync(socketPath)));
  });

  test('the willing ones by themselves, without waiting for the grace period', async () => {
    const owner = world.owner('starts.js', {
      configs: [world.config('plugin', ['signals.py', world.path('heard')], { shutdownGracePeriod: 20_000 })],
    });
    const leader = identify((await owner.says('ready')).plugin);
    owner.child.kill('SIGKILL');
    await owner.exited;
    await expectGone([leader], 2_000);
    expect(fs.readFileSync(world.path('heard'), 'utf8')).toBe('15');
  });

  test('also those that were stopped by SIGSTOP', async () => {
    const owner = world.owner('starts.js', {
      configs: [world.config('plugin', ['signals.py', world.path('heard')], { shutdownGracePeriod: 20_000 })],
    });
    const leader = identify((await owner.says('ready')).plugin);
    signal(leader, 'SIGSTOP');
    owner.child.kill('SIGKILL');
    await owner.exited;
    await expectGone([leader], 2_000);
    expect(fs.readFileSync(world.path('heard'), 'utf8')).toBe('15');
  });
});

describe('in a worker', () => {
  test.each(['terminate', 'worker-exit', 'worker-return'])('the trees go with the thread: %s', async (end) => {
    const { owner, family, leader } = await owned({ end }, { script: 'in-worker.js' });
    await owner.says('workerExit');
    await expectGone([leader, ...family], DAEMONS_GONE);
    // The process itself lives on, without a child.
    expect(owner.gone).toBe(false);
    await until(() => children(owner.pid).length === 0, 5_000);
  });

  testOnLinux('a manager that comes after it, in the same process, waits for its trees and is not refused', async () => {
    const next = ['plugin', 'other'].map((name) => world.config(name, ['willing.py'], { shutdownGracePeriod: GRACE }));
    const { owner, family, leader } = await owned({ end: 'terminate', next }, { script: 'in-worker.js', fixture: ['stubborn'] });
    const said = await owner.says('next');
    expect([leader, ...family].filter(alive)).toEqual([]);
    // Neither refused with the pid of its own process, nor let in while the keeper had not even looked.
    expect(said).toEqual({ waited: true, pid: expect.any(Number) });
    expect(alive(said.pid)).toBe(true);
    expect(await connects(world.socket('plugin'))).toBe(true);
  });

  test('the trees go with the process', async () => {
    const { owner, family, leader } = await owned({ end: 'exit' }, { script: 'in-worker.js' });
    expect(await owner.exited).toEqual({ code: 3, signal: null });
    await expectGone([leader, ...family], DAEMONS_GONE);
  });
});

describe('the guardian', () => {
  /** What stands between the owner and the daemon. */
  const guardians = (owner, leader) => ancestors(leader.pid).filter(({ pid }) => descendants(owner.pid).some((child) => child.pid === pid));

  testOnLinux('is one, however many daemons there are', async () => {
    const configs = ['a', 'b', 'c'].map((name) => world.config(name));
    const owner = world.owner('starts.js', { configs });
    await owner.says('ready');
    expect(children(owner.pid)).toHaveLength(1);
  });

  testOnLinux('is not hit by what hits the group of its owner', async () => {
    const { owner, leader } = await owned({}, { detached: true });
    for (const { pid } of brood(owner, leader)) {
      const [, , , group] = fs.readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').pop().split(' ').map(Number);
      expect(group).not.toBe(owner.pid);
    }
  });

  testOnLinux('tells no secrets: no name and no value in its arguments and environment', async () => {
    const owner = world.owner(
      'starts.js',
      {
        configs: [world.config('named-plugin', ['willing.py', 'hunter2-argument'], { envVars: { TOKEN: 'hunter2-value' } })],
      },
      { env: { OWN_TOKEN: 'hunter2-own' } },
    );
    const leader = identify((await owner.says('ready'))['named-plugin']);
    const between = guardians(owner, leader);
    expect(between.length).toBeGreaterThan(0);
    for (const { pid } of between) {
      const told = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8') + fs.readFileSync(`/proc/${pid}/environ`, 'utf8');
      expect(told).not.toContain('hunter2');
      expect(told).not.toContain('named-plugin');
    }
  });

  /** Kills these, and waits until a daemon runs again, or still, and goes on running. */
  async function recovered(owner, killed) {
    for (const process of killed) signal(process, 'SIGKILL');
    await until(() => !killed.some(alive));
    let calm = 0;
    return until(
      async () => {
        const { value: pid } = await owner.asks('getPid', 'plugin');
        const runs = (await owner.asks('isRunning', 'plugin')).value && pid && alive(pid) && (await connects(world.socket('plugin')));
        calm = runs ? calm + 1 : 0;
        return calm > 5 && identify(pid);
      },
      15_000,
      'a daemon runs',
    );
  }

  // With what else stands between: a keeper for each daemon, for instance.
  testOnLinux.each([
    ['alone', false],
    ['with all that stands between owner and daemon', true],
  ])('that is killed, %s, is replaced: then the promise holds again', async (_, everything) => {
    const owner = world.owner('obeys.js', {}, { ipc: true });
    const config = world.config('plugin', ['willing.py'], { restart: { delay: 0 }, shutdownGracePeriod: GRACE });
    expect(await owner.asks('startProcess', config)).toEqual({});
    const first = identify((await owner.asks('getPid', 'plugin')).value);
    const killed = everything ? guardians(owner, first) : children(owner.pid);
    expect(killed.length).toBeGreaterThan(0);
    const second = await recovered(owner, killed);
    if (second.pid !== first.pid) expect(alive(first)).toBe(false);
    expect(owner.gone).toBe(false);

    expect(await owner.asks('startProcess', world.config('other', ['stubborn.py'], { shutdownGracePeriod: GRACE }))).toEqual({});
    const other = identify((await owner.asks('getPid', 'other')).value);
    const all = [...descendants(owner.pid), second, other];
    owner.child.kill('SIGKILL');
    await owner.exited;
    await expectGone([second, other], DAEMONS_GONE);
    await expectGone(all, 1_000);
  });

  // One that dies young is replaced in another way than one that was there for a while.
  testOnLinux.each([
    ['right after the start', 0],
    ['when it has been there for a while', 250],
  ])('that is killed %s is replaced at once, though nothing is started, and the new one keeps the promise', async (_, age) => {
    const owner = world.owner('obeys.js', {}, { ipc: true });
    expect(await owner.asks('startProcess', world.config('plugin', ['willing.py'], { shutdownGracePeriod: GRACE }))).toEqual({});
    const begun = performance.now();
    const [first, ...more] = children(owner.pid);
    expect(more).toEqual([]);
    await until(() => performance.now() - begun >= age);
    const { value: pid } = await owner.asks('getPid', 'plugin');
    const daemon = identify(pid);
    signal(first, 'SIGKILL');
    await until(() => !alive(first));
    const [second] = await until(() => children(owner.pid).length > 0 && children(owner.pid), 5_000, 'there is another guardian');
    expect(second).not.toEqual(first);
    expect(alive(daemon)).toBe(true);
    expect((await owner.asks('getPid', 'plugin')).value).toBe(pid);

    // A keeper that the new one has made is killed: what fled from its tree is swept all the same.
    const marker = world.path('family');
    const config = world.config('other', ['family.py', marker, 'fled'], { restart: { delay: 0 }, shutdownGracePeriod: GRACE });
    expect(await owner.asks('startProcess', config)).toEqual({});
    expect(children(owner.pid)).toEqual([second]);
    const other = identify((await owner.asks('getPid', 'other')).value);
    const { fled } = await world.family(marker);
    const [keeper, maker] = ancestors(other.pid);
    expect(maker).toEqual(second);
    fs.unlinkSync(marker);
    signal(keeper, 'SIGKILL');
    await until(() => !alive(fled) && !alive(other));
    // The next one comes when nothing is left of this one, and brings a family of its own.
    await world.family(marker);
    await until(async () => (await owner.asks('isRunning', 'other')).value);
    expect(children(owner.pid)).toEqual([second]);
    expect((await owner.asks('getPid', 'plugin')).value).toBe(pid);
    expect(alive(daemon)).toBe(true);
  });

  // What fled to a session of its own has nothing left that proves where it came from, once its keeper is gone.
  testOnLinux(
    "that is killed with its keeper, and the leader is gone: what can't be known for the plugin's is not signalled, nor taken for gone",
    async () => {
      const owner = world.owner('obeys.js', {}, { ipc: true });
      // It has nothing of the plugin's in its environment.
      const { command, args, ...rest } = world.config('plugin', ['willing.py'], { shutdownGracePeriod: 50, restart: { maxAttempts: 0 } });
      expect(
        await owner.asks('startProcess', {
          ...rest,
          command: '/bin/sh',
          args: ['-c', 'env -i sleep 60 & exec "$0" "$@"', command, ...args],
        }),
      ).toEqual({});
      const leader = identify((await owner.asks('getPid', 'plugin')).value);
      const [doubtful] = await until(() => children(leader.pid).length === 1 && children(leader.pid));
      world.finally(() => signal(doubtful, 'SIGKILL'));
      // By its name as well: while it becomes env(1) it has no environment either.
      await until(() => fs.readFileSync(`/proc/${doubtful.pid}/comm`, 'utf8') === 'sleep\n');
      expect(fs.readFileSync(`/proc/${doubtful.pid}/environ`, 'utf8')).toBe('');
      const [keeper, guardian] = ancestors(leader.pid);
      // While the leader lives its session is its own for certain.
      for (const process of [identify(owner.pid), guardian, keeper]) signal(process, 'SIGSTOP');
      for (const process of [guardian, keeper]) signal(process, 'SIGKILL');
      await until(() => !alive(leader));
      signal(owner.pid, 'SIGCONT');
      await until(async () => (await owner.asks('getState', 'plugin')).value === 'error');
      expect((await owner.asks('getProcessInfo', 'plugin')).value.lastError).toContain(String(doubtful.pid));
      expect(alive(doubtful)).toBe(true);
      expect(fs.existsSync(world.pidFile('plugin'))).toBe(true);
      signal(doubtful, 'SIGKILL');
      await until(() => !fs.existsSync(world.pidFile('plugin')));
      await until(async () => !(await owner.asks('startProcess', world.config('plugin'))).error);
    },
  );

  testOnLinux.each([
    ['alone', false, KINDS],
    ['with all that stands between owner and daemon', true, ['stubborn', 'grouped']],
  ])('that is killed, %s: a stop still stops the whole tree', async (_, everything, kinds) => {
    const owner = world.owner('obeys.js', {}, { ipc: true });
    const marker = world.path('family');
    const config = world.config('plugin', ['family.py', marker, ...kinds], { restart: { delay: 0 }, shutdownGracePeriod: GRACE });
    expect(await owner.asks('startProcess', config)).toEqual({});
    const first = identify((await owner.asks('getPid', 'plugin')).value);
    const family = Object.values(await world.family(marker));
    const second = await recovered(owner, everything ? guardians(owner, first) : children(owner.pid));
    if (second.pid !== first.pid) expect([first, ...family].filter(alive)).toEqual([]);

    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect([first, second, ...family, ...Object.values(await world.family(marker))].filter(alive)).toEqual([]);
  });

  testOnLinux("that does not say what became of a killed keeper's tree makes no stop believe that it is gone", async () => {
    const manager = world.manager();
    const marker = world.path('family');
    const config = world.config('plugin', ['family.py', marker, 'stubborn', 'fled'], { restart: { delay: 0 }, shutdownGracePeriod: GRACE });
    await manager.startProcess(config);
    const leader = identify(manager.getPid('plugin'));
    const { fled } = await world.family(marker);
    const [keeper, guardian] = guardians({ pid: process.pid }, leader);
    signal(guardian, 'SIGSTOP');
    world.finally(() => signal(guardian, 'SIGCONT'));
    signal(keeper, 'SIGKILL');
    await until(() => manager.getState('plugin') === 'starting');
    expect(await failure(manager.stopProcess('plugin'))).toMatchObject({ code: 'ERR_STOP_FAILED' });
    expect(manager.getState('plugin')).toBe('error');
    expect(alive(fled)).toBe(true);
    expect(await failure(manager.startProcess(config))).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });

    // It goes on where it stood, and so does the manager.
    signal(guardian, 'SIGCONT');
    await until(() => !alive(fled));
    await until(() =>
      manager.startProcess(config).then(
        () => true,
        () => false,
      ),
    );
    expect(manager.isRunning('plugin')).toBe(true);
  });

  test('and its killing are no event of the daemon that lives on', async () => {
    const manager = world.manager();
    const events = record(manager);
    await manager.startProcess(world.config());
    const daemon = identify(manager.getPid('plugin'));
    const [guardian] = guardians({ pid: process.pid }, daemon).filter(({ pid }) =>
      children(process.pid).some((child) => child.pid === pid),
    );
    signal(guardian, 'SIGKILL');
    await until(() => !alive(guardian));
    await manager.startProcess(world.config('other'));
    expect(manager.isRunning('other')).toBe(true);
    // It lives on, or every event says that it does not.
    if (alive(daemon)) expect(events.states('plugin')).toEqual(['starting', 'running']);
    else expect(events.of('exit', 'plugin')).toHaveLength(1);
    await until(() => manager.isRunning('plugin'));
    await manager.stopAllProcesses();
    expect(alive(daemon)).toBe(false);
  });
});

describe("onOwnerDeath: 'keep'", () => {
  test.each([
    ['SIGKILL', 'wait'],
    ['process.exit', 'exit'],
    ['the end of its work', 'return'],
  ])('a daemon survives %s also when it prints, and the next start replaces it', async (how, end) => {
    const beats = world.path('beats');
    const counted = () => (fs.existsSync(beats) ? Number(fs.readFileSync(beats, 'utf8')) : 0);
    const config = world.config('plugin', ['beats.py', beats]);
    const owner = world.owner('starts.js', { options: { onOwnerDeath: 'keep' }, configs: [config], end });
    const old = identify((await owner.says('ready')).plugin);
    if (end === 'wait') owner.child.kill('SIGKILL');
    await owner.exited;
    // A line of a KiB at each beat: more than any pipe holds.
    const before = counted();
    await until(() => counted() > before + 150, 15_000);
    expect(alive(old)).toBe(true);
    expect(await connects(config.socketPath)).toBe(true);
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${old.pid}\n`);

    const manager = world.manager();
    await manager.startProcess(config);
    expect(alive(old)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(manager.getPid('plugin')).not.toBe(old.pid);
    expect(await connects(config.socketPath)).toBe(true);
  });

  test('the whole tree survives, and the whole tree is replaced', async () => {
    const { owner, family, leader } = await owned({ options: { onOwnerDeath: 'keep' } });
    owner.child.kill('SIGKILL');
    await owner.exited;
    const manager = world.manager();
    // Something else that takes a while, so that a signal on its way would have come.
    await manager.startProcess(world.config('other'));
    expect([leader, ...family].filter((process) => !alive(process))).toEqual([]);

    fs.unlinkSync(world.path('family'));
    await manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: GRACE }));
    expect([leader, ...family].filter(alive)).toEqual([]);
  });

  test('a stop is still a stop', async () => {
    const manager = world.manager({ onOwnerDeath: 'keep' });
    const marker = world.path('family');
    await manager.startProcess(world.config('plugin', ['family.py', marker, ...KINDS], { shutdownGracePeriod: 200 }));
    const family = Object.values(await world.family(marker));
    await manager.stopProcess('plugin');
    expect(family.filter(alive)).toEqual([]);
    expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
  });
});
