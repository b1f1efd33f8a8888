'use strict';

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { alive, holders, signal, target } = require('../helpers/proc');
const { watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useStartAndStop } = require('./start-and-stop');

const world = useWorld();
const { stop, started } = useStartAndStop(world);

const kinds = ['stubborn', 'willing', 'grouped', 'fled', 'quiet'];

test('stopSignal: a process forked by a signal handler after the stop signal does not get it', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await started(manager, ['leads-a-tree.py', marker, ...Array(20).fill('cleans')], { shutdownGracePeriod: 10_000 });
  await stop(manager);
  expect(fs.existsSync(`${marker}.asked`)).toBe(false);
});

test('stopProcess: every process of the tree gets stopSignal, and SIGKILL after the grace period', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  const leader = await started(manager, ['leads-a-tree.py', marker, ...kinds], { shutdownGracePeriod: 1_500 });
  const family = await world.tree(marker);
  expect(Object.keys(family).sort()).toEqual([...kinds].sort());
  expect(Object.values(family).every(alive)).toBe(true);

  const stopping = watch(manager.stopProcess('plugin'));
  await until(() => !alive(leader) && fs.existsSync(`${marker}.willing`));
  // The leader has exited; the grace period goes on for the others.
  expect(stopping.settled).toBe(false);
  expect(manager.getState('plugin')).toBe('stopping');
  await stopping.promise;
  expectNothingLeft(world, 'plugin', [leader, ...Object.values(family)]);
  // The leader exited by itself.
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: leader.pid, code: 0, reason: 'stopped' });
});

test('shutdownGracePeriod: the rest of the tree keeps it when the leader has exited', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await started(manager, ['leads-a-tree.py', marker, 'fled'], { shutdownGracePeriod: 600 });
  const took = await stop(manager);
  expect(took).toBeGreaterThanOrEqual(595);
  expect(took).toBeLessThan(2_600);
  expectNothingLeft(world, 'plugin', Object.values(await world.tree(marker)));
});

test('shutdownGracePeriod: is cut short when the whole tree has exited', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await started(manager, ['leads-a-tree.py', marker, 'willing'], { shutdownGracePeriod: 20_000 });
  expect(await stop(manager)).toBeLessThan(5_000);
  expect(fs.existsSync(`${marker}.willing`)).toBe(true);
});

test('stopProcess: a tree stopped by SIGSTOP is woken to handle stopSignal', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  const leader = await started(manager, ['leads-a-tree.py', marker, 'willing'], { shutdownGracePeriod: 20_000 });
  const { willing } = await world.tree(marker);
  signal(willing, 'SIGSTOP');
  signal(leader, 'SIGSTOP');
  expect(await stop(manager)).toBeLessThan(5_000);
  expectNothingLeft(world, 'plugin', [leader, willing]);
  expect(fs.existsSync(`${marker}.willing`)).toBe(true);
});

test("stopProcess: leaves another plugin's tree alone", async () => {
  const manager = world.manager();
  await manager.startProcess(
    world.config('other', ['leads-a-tree.py', world.path('other'), 'fled', 'grouped'], { shutdownGracePeriod: 100 }),
  );
  const others = Object.values(await world.tree(world.path('other')));
  await started(manager, ['leads-a-tree.py', world.path('family'), 'fled', 'grouped'], { shutdownGracePeriod: 100 });
  await stop(manager);
  expectNothingLeft(world, 'plugin', Object.values(await world.tree(world.path('family'))));
  expect(others.every(alive)).toBe(true);
  await stop(manager, 'other');
  expectNothingLeft(world, 'other', others);
});

test("killMode group: processes that left the leader's group are spared", async () => {
  const manager = world.manager();
  const marker = world.path('family');
  const leader = await started(manager, ['leads-a-tree.py', marker, 'stubborn', 'willing', 'quiet', 'fled'], {
    killMode: 'group',
    shutdownGracePeriod: 300,
  });
  const family = await world.tree(marker);
  world.killAtEnd(family.quiet, family.fled);
  expect(await stop(manager)).toBeLessThan(2_300);
  expectNothingLeft(world, 'plugin', [leader, family.stubborn, family.willing]);
  expect([family.quiet, family.fled].map(alive)).toEqual([true, true]);
  expect(manager.getState('plugin')).toBe('stopped');

  // The next start does not take them for an orphan.
  await started(manager);
  expect([family.quiet, family.fled].map(alive)).toEqual([true, true]);
});

testOnLinux("killMode group: a spared process can print after the owner's end, and its pipe is read until it ends", async () => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  const marker = world.path('family');
  const config = world.config('plugin', ['leads-a-tree.py', marker, 'chatty'], { killMode: 'group', shutdownGracePeriod: 300 });
  expect(await owner.asks('startProcess', config)).toEqual({});
  const { chatty } = await world.tree(marker);
  world.killAtEnd(chatty);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  const pipe = target(chatty.pid, 1);
  owner.child.disconnect();
  await owner.exited;

  // 500 lines of 1 KiB are more than a pipe holds.
  const said = () => (fs.existsSync(`${marker}.chatty`) ? Number(fs.readFileSync(`${marker}.chatty`, 'utf8')) : 0);
  const before = said();
  await until(() => said() > before + 500 || !alive(chatty));
  expect(alive(chatty)).toBe(true);
  signal(chatty, 'SIGKILL');
  await until(() => holders(pipe).length === 0);
});
