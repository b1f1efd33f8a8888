'use strict';

const fs = require('node:fs');
const { between } = require('../helpers/commanded-owner');
const { record } = require('../helpers/events');
const { freeze } = require('../helpers/freeze');
const { testOnLinux, testWith } = require('../helpers/needs');
const {
  alive,
  ancestors,
  children,
  commandLine,
  descendants,
  environment,
  identify,
  killTogether,
  signal,
  stat,
  threadName,
} = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useOwnedTree } = require('./owned-tree');

const world = useWorld();
const { brood, owned, DAEMONS_GONE, expectGone, GRACE, KINDS } = useOwnedTree(world);

/** Kills the helpers, and waits until the plugin runs (again or still) and goes on running. */
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

testOnLinux('guardian: there is one for all daemons', async () => {
  const configs = ['a', 'b', 'c'].map((name) => world.config(name));
  const owner = world.owner('starts-and-ends.js', { configs });
  await owner.says('ready');
  expect(children(owner.pid)).toHaveLength(1);
});

testOnLinux('guardian: is not in the process group of its owner', async () => {
  const { owner, family, leader } = await owned({}, { detached: true });
  const all = brood(owner, leader);
  expect(all.length).toBeGreaterThan(family.length + 2);
  for (const { pid } of all) expect(stat(pid).group).not.toBe(owner.pid);
});

testOnLinux('guardian and keeper: have no name and no value of a plugin in their arguments and environment', async () => {
  const owner = world.owner(
    'starts-and-ends.js',
    {
      configs: [world.config('named-plugin', ['serves.py', 'hunter2-argument'], { envVars: { TOKEN: 'hunter2-value' } })],
    },
    { env: { OWN_TOKEN: 'hunter2-own' } },
  );
  const leader = identify((await owner.says('ready'))['named-plugin']);
  const helpers = between(owner, leader);
  expect(helpers).toHaveLength(2);
  for (const { pid } of helpers) {
    expect(commandLine(pid)).toContain('ally-guardian');
    const told = commandLine(pid) + JSON.stringify([...environment(pid)]);
    expect(told).not.toContain('hunter2');
    expect(told).not.toContain('named-plugin');
  }
});

// The guardian alone, or the guardian and the keeper.
testOnLinux.each([
  ['alone', false],
  ['together with the keeper', true],
])('guardian: killed %s, a new one keeps the promise of owner death', async (_, everything) => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  const config = world.config('plugin', ['serves.py'], { restart: { delay: 0 }, shutdownGracePeriod: GRACE });
  expect(await owner.asks('startProcess', config)).toEqual({});
  const first = identify((await owner.asks('getPid', 'plugin')).value);
  const killed = everything ? between(owner, first) : children(owner.pid);
  expect(killed.length).toBeGreaterThan(0);
  const second = await recovered(owner, killed);
  // Without its keeper the leader is killed, and restarted; without the guardian alone it lives on.
  expect([second.pid === first.pid, alive(first)]).toEqual([!everything, !everything]);
  expect(owner.gone).toBe(false);

  expect(await owner.asks('startProcess', world.config('other', ['ignores-signals.py'], { shutdownGracePeriod: GRACE }))).toEqual({});
  const other = identify((await owner.asks('getPid', 'other')).value);
  const all = [...descendants(owner.pid), second, other];
  owner.child.kill('SIGKILL');
  await owner.exited;
  await expectGone([second, other], DAEMONS_GONE);
  await expectGone(all, 1_000);
});

// A guardian that lived for a moment is replaced in another way than one that lived longer.
testOnLinux.each([
  ['right after the start', 0],
  ['after 250 ms', 250],
])('guardian: killed %s, a new one is there at once and sweeps for a killed keeper', async (_, age) => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  expect(await owner.asks('startProcess', world.config('plugin', ['serves.py'], { shutdownGracePeriod: GRACE }))).toEqual({});
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

  // A keeper of the new guardian is killed: the new guardian sweeps for what fled from its tree.
  const marker = world.path('family');
  const config = world.config('other', ['leads-a-tree.py', marker, 'fled'], { restart: { delay: 0 }, shutdownGracePeriod: GRACE });
  expect(await owner.asks('startProcess', config)).toEqual({});
  expect(children(owner.pid)).toEqual([second]);
  const other = identify((await owner.asks('getPid', 'other')).value);
  const { fled } = await world.tree(marker);
  const [keeper, maker] = ancestors(other.pid);
  expect(maker).toEqual(second);
  fs.unlinkSync(marker);
  signal(keeper, 'SIGKILL');
  await until(() => !alive(fled) && !alive(other));
  // The restart comes when the old tree is gone, and has a tree of its own.
  await world.tree(marker);
  await until(async () => (await owner.asks('isRunning', 'other')).value);
  expect(children(owner.pid)).toEqual([second]);
  expect((await owner.asks('getPid', 'plugin')).value).toBe(pid);
  expect(alive(daemon)).toBe(true);
});

testOnLinux.each([
  ['alone', false, KINDS],
  ['together with the keeper', true, ['stubborn', 'grouped']],
])('guardian: killed %s, stopProcess still ends the whole tree', async (_, everything, kinds) => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  const marker = world.path('family');
  const config = world.config('plugin', ['leads-a-tree.py', marker, ...kinds], { restart: { delay: 0 }, shutdownGracePeriod: GRACE });
  expect(await owner.asks('startProcess', config)).toEqual({});
  const first = identify((await owner.asks('getPid', 'plugin')).value);
  const family = Object.values(await world.tree(marker));
  const second = await recovered(owner, everything ? between(owner, first) : children(owner.pid));
  expect(second.pid === first.pid).toBe(!everything);
  expect([first, ...family].filter(alive)).toEqual(everything ? [] : [first, ...family]);

  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect([first, second, ...family, ...Object.values(await world.tree(marker))].filter(alive)).toEqual([]);
});

testWith('ptrace')("ERR_STOP_FAILED: a frozen guardian cannot confirm that a killed keeper's tree is gone", async () => {
  const manager = world.manager();
  const marker = world.path('family');
  const config = world.config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'fled'], {
    restart: { delay: 0 },
    shutdownGracePeriod: GRACE,
  });
  await manager.startProcess(config);
  const leader = identify(manager.getPid('plugin'));
  const { fled } = await world.tree(marker);
  const [keeper, guardian] = between({ pid: process.pid }, leader);
  const goOn = await freeze(guardian);
  world.finally(goOn);
  signal(keeper, 'SIGKILL');
  await until(() => manager.getState('plugin') === 'starting');
  expect(await failure(manager.stopProcess('plugin'))).toMatchObject({ code: 'ERR_STOP_FAILED' });
  expect(manager.getState('plugin')).toBe('error');
  expect(alive(fled)).toBe(true);
  expect(await failure(manager.startProcess(config))).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });

  // The guardian goes on with the sweep, and the manager with it.
  await goOn();
  await until(() => !alive(fled));
  await until(() =>
    manager.startProcess(config).then(
      () => true,
      () => false,
    ),
  );
  expect(manager.isRunning('plugin')).toBe(true);
});

test('guardian: its SIGKILL is no event of a daemon that lives on', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config());
  const daemon = identify(manager.getPid('plugin'));
  const [guardian] = between({ pid: process.pid }, daemon).filter(({ pid }) => children(process.pid).some((child) => child.pid === pid));
  signal(guardian, 'SIGKILL');
  await until(() => !alive(guardian));
  await manager.startProcess(world.config('other'));
  expect(manager.isRunning('other')).toBe(true);
  expect(alive(daemon)).toBe(true);
  expect(events.states('plugin')).toEqual(['starting', 'running']);
  expect([events.of('exit'), events.of('restart')]).toEqual([[], []]);
  await until(() => manager.isRunning('plugin'));
  await manager.stopAllProcesses();
  expect(alive(daemon)).toBe(false);
});

testOnLinux.each([
  ['lives', ['--never-bind'], 'ERR_INTERNAL'],
  ['has exited', ['--exit', 3], 'ERR_STARTUP_EXIT'],
])('guardian: killed with the keeper before the owner has read of the spawn, nothing is left (the leader %s)', async (_, how, code) => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  world.finally(() => signal(owner.pid, 'SIGCONT'));
  expect(await owner.asks('startProcess', world.config('other', ['serves.py'], { socketPath: world.path('o') }))).toEqual({});
  const [other, guardian] = ancestors((await owner.asks('getPid', 'other')).value);
  const marker = world.path('family');
  const tree = ['leads-a-tree.py', marker, ...how, 'stubborn', 'grouped'];
  signal(guardian, 'SIGSTOP');
  const start = owner.asks('startProcess', world.config('plugin', tree, { restart: { maxAttempts: 0 } }));
  // The guardian takes the order while the owner stands still.
  const keepers = () => children(guardian.pid).filter(({ pid }) => pid !== other.pid && threadName(pid) === 'ally-keeper');
  for (let isTaken = false; !isTaken; ) {
    const begun = performance.now();
    await until(() => performance.now() - begun > 30);
    signal(owner.pid, 'SIGSTOP');
    signal(guardian, 'SIGCONT');
    isTaken = await until(() => keepers().length === 1, 3_000).catch(() => false);
    if (!isTaken) {
      signal(guardian, 'SIGSTOP');
      signal(owner.pid, 'SIGCONT');
    }
  }
  const family = Object.values(await world.tree(marker));
  const [keeper] = keepers();
  const [leader] = how[0] === '--never-bind' ? children(keeper.pid) : [];
  if (!leader) await until(() => family.every(({ pid }) => stat(pid).ppid === keeper.pid));
  killTogether([guardian, keeper]);
  if (leader) await until(() => !alive(leader));
  expect(family.every(alive)).toBe(true);
  expect(fs.existsSync(`${world.folder('plugin')}/daemon.id`)).toBe(false);
  signal(owner.pid, 'SIGCONT');
  expect((await start).error).toMatchObject({ code });
  await until(() => !family.some(alive));
});

// Without its keeper, nothing proves the origin of a process in a POSIX session of its own.
testOnLinux(
  "guardian: killed with the keeper, a process that is not provably the plugin's is neither signalled nor taken for gone",
  async () => {
    const owner = world.owner('obeys-commands.js', {}, { ipc: true });
    // Its environment does not name the plugin.
    const { command, args, ...rest } = world.config('plugin', ['serves.py'], { shutdownGracePeriod: 50, restart: { maxAttempts: 0 } });
    expect(
      await owner.asks('startProcess', {
        ...rest,
        command: '/bin/sh',
        args: ['-c', 'env -i sleep 60 & exec "$0" "$@"', command, ...args],
      }),
    ).toEqual({});
    const leader = identify((await owner.asks('getPid', 'plugin')).value);
    const [doubtful] = await until(() => children(leader.pid).length === 1 && children(leader.pid));
    world.killAtEnd(doubtful);
    // By its name as well: during execve(2) the environment is empty too.
    await until(() => threadName(doubtful.pid) === 'sleep');
    expect(environment(doubtful.pid).size).toBe(0);
    const [keeper, guardian] = ancestors(leader.pid);
    // While the leader lives, its POSIX session proves the origin.
    signal(owner.pid, 'SIGSTOP');
    killTogether([guardian, keeper]);
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
