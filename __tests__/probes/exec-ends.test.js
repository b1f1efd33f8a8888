'use strict';

// The end of a command when its daemon, keeper or owner ends.

const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { alive, children, identify, signal, stat, threadName } = require('../helpers/proc');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { LEAVES_A_STRAY, shell, useCommands } = require('./commands');

const world = useWorld();
const { checkedBy } = useCommands(world);
const STUBBORN = `trap "" TERM INT; ${LEAVES_A_STRAY} sleep 60`;

/** A daemon with a command under way, and the processes of the command. */
async function underWay(changes) {
  const found = await checkedBy(STUBBORN, changes);
  const processes = Object.values(await world.tree(found.marker));
  return { ...found, processes, keeper: identify(stat(found.leader.pid).ppid) };
}

describe.each(['tree', 'group'])('killMode %s', (killMode) => {
  test('healthcheck.probe exec: a crash ends the command, and is a crash without remains', async () => {
    const manager = world.manager();
    const events = record(manager);
    const { leader, processes } = await underWay({ manager, killMode, shutdownGracePeriod: 20_000, restart: { delay: 0 } });
    const began = performance.now();
    signal(leader, 'SIGKILL');
    await until(() => runsAnew(manager, 'plugin', leader.pid));
    // Remains would get the whole grace period.
    expect(performance.now() - began).toBeLessThan(10_000);
    expect(processes.filter(alive)).toEqual([]);
    await until(() => events.of('exit').length > 0);
    expect(events.of('exit')).toMatchObject([{ reason: 'crashed' }]);
    expect(events.of('health')).toEqual([]);
  });

  test('healthcheck.probe exec: a stop is not delayed by the command', async () => {
    const { manager, leader, processes } = await underWay({ killMode, shutdownGracePeriod: 20_000 });
    const began = performance.now();
    await manager.stopProcess('plugin');
    expect(performance.now() - began).toBeLessThan(10_000);
    expectNothingLeft(world, 'plugin', [leader]);
    await until(() => !processes.some(alive), 2_000);
    expect(manager.getProcessInfo('plugin').lastExit.signal).not.toBe('SIGKILL');
  });
});

testOnLinux('healthcheck.probe exec: a killed keeper takes the command with it', async () => {
  const manager = world.manager();
  const events = record(manager);
  const { leader, processes, keeper } = await underWay({ manager });
  signal(keeper, 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', leader.pid));
  expect([...processes, leader].filter(alive)).toEqual([]);
  expect(events.of('health')).toEqual([]);
});

testOnLinux('healthcheck.probe exec: a suspended keeper is no failure of the daemon', async () => {
  const manager = world.manager();
  const events = record(manager);
  const { leader } = await checkedBy('true', { manager, healthcheck: { timeout: 200 } });
  await until(() => events.of('health').length > 0);
  const keeper = identify(stat(leader.pid).ppid);
  signal(keeper, 'SIGSTOP');
  await until(() => children(keeper.pid).length === 1);
  const before = events.of('health').length;
  // Another daemon shows that time passes.
  await manager.startProcess(world.config('other', ['never-binds.py'], { readiness: shell('sleep 0.9') }));
  expect(events.of('health').length - before).toBeLessThanOrEqual(1);
  expect(events.of('health').every(({ healthy }) => healthy)).toBe(true);
  signal(keeper, 'SIGCONT');
  await until(() => events.of('health').length > before + 3);
  expect(events.of('health').every(({ healthy }) => healthy)).toBe(true);
  expect(manager.getPid('plugin')).toBe(leader.pid);
});

testOnLinux('healthcheck.probe exec: a killed probe keeper is no failure of the daemon, and its command ends', async () => {
  const manager = world.manager();
  const events = record(manager);
  const { leader, marker, keeper } = await checkedBy('echo command $$ >"$1.new"; mv "$1.new" "$1"; exec sleep 60', { manager }).then(
    (found) => ({ ...found, keeper: identify(stat(found.leader.pid).ppid) }),
  );
  const { command } = await world.tree(marker);
  const prober = children(keeper.pid).find(({ pid }) => threadName(pid) === 'ally-probe');
  signal(prober, 'SIGKILL');
  await until(() => !alive(command));
  // The check is made again.
  await until(() => children(keeper.pid).some(({ pid }) => threadName(pid) === 'ally-probe' && pid !== prober.pid));
  expect(events.of('health')).toEqual([]);
  expect(manager.getPid('plugin')).toBe(leader.pid);
});

test.each(['stop', 'keep'])("healthcheck.probe exec: the owner's death ends the command (onOwnerDeath: '%s')", async (onOwnerDeath) => {
  const marker = world.path('command');
  const healthcheck = { interval: 30, timeout: 20_000, retries: 1, probe: shell(STUBBORN, marker) };
  const configs = [world.config('plugin', ['serves.py'], { healthcheck })];
  const owner = world.owner('starts-and-ends.js', { options: { onOwnerDeath }, configs });
  const leader = identify((await owner.says('ready')).plugin);
  const processes = Object.values(await world.tree(marker));
  owner.child.kill('SIGKILL');
  await until(() => !processes.some(alive));
  if (onOwnerDeath === 'stop') await until(() => !alive(leader));
  else {
    expect(alive(leader)).toBe(true);
    await world.manager().startProcess(world.config());
  }
});
