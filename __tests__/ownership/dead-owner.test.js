'use strict';

const fs = require('node:fs');
const { spawn } = require('node:child_process');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { testOnLinux } = require('../helpers/needs');
const { alive, identify } = require('../helpers/proc');
const { watch } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useAnotherOwner } = require('./another-owner');

const world = useWorld();
const { elsewhere, GRACE, belongings } = useAnotherOwner(world);
const { config } = useCommandedOwner(world);

test('dead owner: a start waits until its tree is gone', async () => {
  const { owner, daemon } = await elsewhere({ configs: [world.config('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 1_000 })] });
  const manager = world.manager();
  owner.child.kill('SIGKILL');
  await owner.exited;
  expect(alive(daemon)).toBe(true);
  const start = watch(manager.startProcess(world.config('plugin')));
  await until(() => {
    if (alive(daemon)) expect(start.settled).toBe(false);
    return start.settled;
  });
  await start.promise;
  expect(alive(daemon)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

testOnLinux('dead owner: whose pid this process has is waited for', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('other'));
  const [, pid, began, id] = fs.readFileSync(`${world.folder('other')}/daemon.lock`, 'utf8').split(/\s/);
  expect(Number(pid)).toBe(process.pid);
  // As in a container that was made anew around the same volume: all but the start time is equal.
  fs.mkdirSync(world.folder('plugin'));
  fs.writeFileSync(`${world.folder('plugin')}/daemon.lock`, `owner ${pid} ${Number(began) - 1} ${id}\n`);
  const holder = spawn('python3', [
    '-c',
    'import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)',
    `${world.folder('plugin')}/daemon.lock`,
  ]);
  world.finally(() => holder.kill('SIGKILL'));
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  const start = watch(manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 10_000 })));
  await manager.stopProcess('other');
  expect(start.settled).toBe(false);
  holder.kill('SIGKILL');
  await start.promise;
  expect(manager.isRunning('plugin')).toBe(true);
});

test('dead owner: a start in the turn of its SIGKILL is not refused', async () => {
  const configs = Array.from({ length: 10 }, (_, index) => world.config(`plugin-${index}`, ['serves.py'], { shutdownGracePeriod: GRACE }));
  const owners = configs.map((config) => world.owner('starts-and-ends.js', { configs: [config] }));
  await Promise.all(owners.map((owner) => owner.says('ready')));
  const manager = world.manager();
  // A first start takes so long that the owner could end meanwhile.
  await manager.startProcess(world.config('warm'));
  for (const [index, config] of configs.entries()) {
    const daemon = identify(owners[index].lines.find((line) => 'ready' in line).ready[config.pluginName]);
    owners[index].child.kill('SIGKILL');
    await manager.startProcess(config);
    expect([index, alive(daemon), manager.isRunning(config.pluginName)]).toEqual([index, false, true]);
  }
});

test('dead owner: its files alone are no obstacle', async () => {
  const { owner, daemon } = await elsewhere({ configs: [world.config('plugin', ['serves.py'], { shutdownGracePeriod: GRACE })] });
  const saved = belongings(daemon).files;
  owner.child.kill('SIGKILL');
  await owner.exited;
  await until(() => !alive(daemon));
  // As after a power failure.
  for (const [name, text] of saved) fs.writeFileSync(`${world.folder('plugin')}/${name}`, text, 'latin1');
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  expect(manager.isRunning('plugin')).toBe(true);
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
});

test.each(['starts-and-ends.js', 'starts-in-a-worker.js'])(
  'dead owner: a start waits for the tree of an owner that ended by itself: %s',
  async (script) => {
    const marker = world.path('family');
    const owner = world.owner(script, {
      configs: [config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'fled'], { shutdownGracePeriod: 600 })],
      end: script === 'starts-and-ends.js' ? 'return' : 'terminate',
    });
    const family = Object.values(await world.tree(marker));
    const leader = identify((await owner.says('ready')).plugin);
    await (script === 'starts-and-ends.js' ? owner.exited : owner.says('terminated'));
    await world.manager().startProcess(config());
    expect([leader, ...family].filter(alive)).toEqual([]);
  },
);

test('onOwnerDeath keep: the next start replaces the whole tree of an owner that ended by itself', async () => {
  const marker = world.path('family');
  const owner = world.owner('starts-and-ends.js', {
    options: { onOwnerDeath: 'keep' },
    configs: [config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'fled'])],
    end: 'return',
  });
  const family = Object.values(await world.tree(marker));
  world.killAtEnd(...family);
  await owner.exited;
  await world.manager().startProcess(config());
  expect(family.filter(alive)).toEqual([]);
});

test('dead owner: its tree keeps its own grace period, and a start with a shorter one waits', async () => {
  const owner = world.owner('starts-and-ends.js', { configs: [config('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 3_000 })] });
  const leader = identify((await owner.says('ready')).plugin);
  owner.child.kill('SIGKILL');
  await owner.exited;
  expect(alive(leader)).toBe(true);
  const manager = world.manager();
  // A start's own patience is 2 s, and the grace period is 3 s.
  await manager.startProcess(config('plugin', ['serves.py'], { shutdownGracePeriod: 0 }));
  expect(alive(leader)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
});
