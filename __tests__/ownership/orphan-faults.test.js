'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { between, errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { alive, identify, killTogether } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useCommandedTree } = require('./commanded-tree');

const world = useWorld();
const { commandedTree } = useCommandedTree(world);
const { commandedOwner, config, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

/** The tree of an owner that was killed together with guardian and keeper. */
async function orphans() {
  const marker = world.path('family');
  const owner = world.owner('starts-and-ends.js', { configs: [config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'grouped'])] });
  const leader = identify((await owner.says('ready')).plugin);
  const doomed = [identify(owner.pid), ...between(owner, leader)];
  const family = Object.values(await world.tree(marker));
  killTogether(doomed);
  await until(() => ![...doomed, leader].some(alive));
  await owner.exited;
  expect(family.every(alive)).toBe(true);
  return family;
}

async function ready() {
  const owner = commandedOwner();
  await expectStartAndStop(owner, 'warm');
  return owner;
}

testWith('strace')('orphan: is swept where pidfd_open is unknown (ENOSYS)', async () => {
  const [left, owner] = [await orphans(), await ready()];
  const fault = await inject(world, await supervisorThread(owner), ['pidfd_open:error=ENOSYS']);
  expect(await owner.asks('startProcess', config())).toEqual({});
  expect(left.filter(alive)).toEqual([]);
  await fault.stop();
  expect(fault.injected()).toBeGreaterThanOrEqual(2);
});

testWith('strace')('orphan: is swept without a descriptor for a pidfd (EMFILE)', async () => {
  const [left, owner] = [await orphans(), await ready()];
  const fault = await inject(world, await supervisorThread(owner), ['pidfd_open:error=EMFILE:when=1']);
  expect(await owner.asks('startProcess', config())).toEqual({});
  expect(left.filter(alive)).toEqual([]);
  await fault.stop();
});

testWith('strace')('orphan: is remembered by a start that cannot read daemon.id', async () => {
  const [left, owner] = [await orphans(), await ready()];
  world.killAtEnd(...left);
  // By its path, because other calls of the supervisor may come between.
  const fault = await inject(world, await supervisorThread(owner), ['openat:error=EMFILE'], { file: 'daemon.id' });
  await owner.asks('startProcess', config());
  expect(fault.injected()).toBeGreaterThan(0);
  await fault.stop();
  await owner.asks('stopProcess', 'plugin');
  await expectStartAndStop(owner);
  expect(left.filter(alive)).toEqual([]);
});

testWith('strace')('orphan: is remembered by a start that cannot read the boot id', async () => {
  const [left, owner] = [await orphans(), await ready()];
  world.killAtEnd(...left);
  const identity = path.join(world.folder('plugin'), 'daemon.id');
  const record = fs.readFileSync(identity, 'utf8');
  const fault = await inject(world, await supervisorThread(owner), ['openat:error=EMFILE'], { file: '/proc/sys/kernel/random/boot_id' });
  expect((await owner.asks('startProcess', config())).error).toEqual(errorWith('ERR_IO', 'boot_id', 'EMFILE'));
  expect(fs.existsSync(identity) && fs.readFileSync(identity, 'utf8')).toBe(record);
  expect(left.every(alive)).toBe(true);
  await fault.stop();
  expect(fault.injected()).toBe(1);
  await expectStartAndStop(owner);
  expect(left.filter(alive)).toEqual([]);
});

testWith('strace')('ERR_STOP_FAILED: names an orphan that cannot be killed, and daemon.id stays', async () => {
  const [left, owner] = [await orphans(), await ready()];
  const fault = await inject(world, await supervisorThread(owner), ['pidfd_send_signal:error=EPERM']);
  const { error } = await owner.asks('startProcess', config('plugin', ['serves.py'], { shutdownGracePeriod: 50 }));
  expect(error.code).toBe('ERR_STOP_FAILED');
  for (const { pid } of left) expect(error.message).toContain(String(pid));
  expect(fs.existsSync(path.join(world.folder('plugin'), 'daemon.id'))).toBe(true);
  await fault.stop();
  await expectStartAndStop(owner);
  expect(left.filter(alive)).toEqual([]);
});

testWith('strace')("ERR_IO: a failed scan of a dead owner's tree refuses the start, and daemon.id stays", async () => {
  const { owner: dead, leader, keeper, guardian, stubborn } = await commandedTree(['stubborn']);
  const owner = commandedOwner();
  await expectStartAndStop(owner, 'warm');
  const doomed = [identify(dead.pid), guardian, keeper];
  killTogether(doomed);
  await until(() => ![...doomed, leader].some(alive));
  const record = path.join(world.folder('plugin'), 'daemon.id');
  const before = fs.readFileSync(record, 'utf8');

  const fault = await inject(world, await supervisorThread(owner), ['openat:error=EMFILE'], { file: `/proc/${stubborn.pid}/stat` });
  expect((await owner.asks('startProcess', config())).error).toEqual(errorWith('ERR_IO', '/proc: EMFILE'));
  await fault.stop();
  expect(fault.injected()).toBeGreaterThan(0);
  expect([alive(stubborn), fs.readFileSync(record, 'utf8')]).toEqual([true, before]);
  await expectStartAndStop(owner);
  expect(alive(stubborn)).toBe(false);
});

testWith('strace')('onOwnerDeath keep: ERR_STOP_FAILED where the keeper cannot end its tree, and daemon.id stays', async () => {
  const former = commandedOwner({ options: { onOwnerDeath: 'keep' } });
  const marker = world.path('family');
  expect(
    await former.asks('startProcess', config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'fled'], { shutdownGracePeriod: 50 })),
  ).toEqual({});
  const leader = identify((await former.asks('getPid', 'plugin')).value);
  const tree = [leader, ...Object.values(await world.tree(marker))];
  world.killAtEnd(...tree);
  const [keeper] = between(former, leader);
  const file = (name) => fs.readFileSync(path.join(world.folder('plugin'), name), 'utf8');
  const record = file('daemon.id');
  former.child.kill('SIGKILL');
  await former.exited;
  await until(() => file('daemon.lock').startsWith(`keeper ${keeper.pid} `));

  const next = commandedOwner();
  const fault = await inject(world, keeper.pid, ['pidfd_send_signal:error=EPERM']);
  const { error } = await next.asks('startProcess', config());
  expect(error).toEqual(errorWith('ERR_STOP_FAILED', String(leader.pid)));
  for (const { pid } of tree) expect(error.message).toContain(String(pid));
  expect((await next.asks('getState', 'plugin')).value).toBe('error');
  expect(tree.every(alive)).toBe(true);
  expect([file('daemon.id'), file('daemon.pid')]).toEqual([record, `${leader.pid}\n`]);
  await fault.stop();
  expect(fault.injected()).toBeGreaterThan(0);
  await expectStartAndStop(next);
  expect(tree.filter(alive)).toEqual([]);
});
