'use strict';

const fs = require('node:fs');
const { alive, identify } = require('../helpers/proc');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useOwnedTree } = require('./owned-tree');

const world = useWorld();
const { GRACE, owned, KINDS } = useOwnedTree(world);

test.each([
  ['SIGKILL', 'wait'],
  ['process.exit', 'exit'],
  ['its natural end', 'return'],
])('onOwnerDeath keep: a printing daemon survives its owner (%s), and the next start replaces it', async (_, end) => {
  const beats = world.path('beats');
  const counted = () => (fs.existsSync(beats) ? Number(fs.readFileSync(beats, 'utf8')) : 0);
  const config = world.config('plugin', ['prints-and-counts.py', beats]);
  const owner = world.owner('starts-and-ends.js', { options: { onOwnerDeath: 'keep' }, configs: [config], end });
  const old = identify((await owner.says('ready')).plugin);
  if (end === 'wait') owner.child.kill('SIGKILL');
  await owner.exited;
  // 150 lines of 1 KiB are more than a pipe holds.
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

test('onOwnerDeath keep: the whole tree survives, and the next start replaces the whole tree', async () => {
  const { owner, family, leader } = await owned({ options: { onOwnerDeath: 'keep' } });
  owner.child.kill('SIGKILL');
  await owner.exited;
  const manager = world.manager();
  // A start takes a while, so that a signal under way would have arrived.
  await manager.startProcess(world.config('other'));
  expect([leader, ...family].filter((process) => !alive(process))).toEqual([]);

  fs.unlinkSync(world.path('family'));
  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: GRACE }));
  expect([leader, ...family].filter(alive)).toEqual([]);
});

test('onOwnerDeath keep: stopProcess ends the whole tree', async () => {
  const manager = world.manager({ onOwnerDeath: 'keep' });
  const marker = world.path('family');
  await manager.startProcess(world.config('plugin', ['leads-a-tree.py', marker, ...KINDS], { shutdownGracePeriod: 200 }));
  const family = Object.values(await world.tree(marker));
  await manager.stopProcess('plugin');
  expect(family.filter(alive)).toEqual([]);
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
});
