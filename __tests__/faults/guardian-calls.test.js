'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { between, errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { alive, identify, signal, zombies } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, processesBeside, guardianOf } = useCommandedOwner(world);

const KINDS = ['stubborn', 'willing', 'grouped', 'fled'];

async function withFamily(owner, changes) {
  const marker = world.path('family');
  expect(await owner.asks('startProcess', config('plugin', ['leads-a-tree.py', marker, ...KINDS], changes))).toEqual({});
  const leader = identify((await owner.asks('getPid', 'plugin')).value);
  const family = Object.values(await world.tree(marker));
  return { leader, tree: [leader, ...family], keeper: between(owner, leader)[0] };
}

/** An owner whose guardian stays, because another daemon runs: without one it exits within 0.4 s. */
async function withGuardian() {
  const owner = commandedOwner();
  expect(await owner.asks('startProcess', config('other'))).toEqual({});
  const other = identify((await owner.asks('getPid', 'other')).value);
  return { owner, other, guardian: await guardianOf(owner) };
}

testWith('strace').each([
  // call, errno, whether strace follows forks, what the start's error has; null: the start works by another guardian
  ['recvmsg', 'ENOMEM', false, null],
  ['recvfrom', 'ENOMEM', false, null],
  ['mmap', 'ENOMEM', false, null],
  ['clone,clone3', 'EAGAIN', false, 'EAGAIN'],
  ['pipe2', 'EMFILE', true, 'EMFILE'],
  ['setsid', 'EPERM', true, 'EPERM'],
  ['chdir', 'EIO', true, 'EIO'],
  ['openat', 'EMFILE', true, 'EMFILE'],
  ['dup2,dup3', 'EMFILE', true, 'EMFILE'],
])('guardian and keeper: a start survives or names %s failing with %s', async (call, errno, follow, expected) => {
  const { owner, other, guardian } = await withGuardian();
  const fault = await inject(world, guardian.pid, [`${call}:error=${errno}:when=1`], { follow });
  const { error } = await owner.asks('startProcess', config());
  await fault.stop();
  expect(fault.injected()).toBeGreaterThan(0);
  if (expected) {
    expect(error).toEqual(errorWith('ERR_SPAWN', expected));
    expect(processesBeside(owner)).toEqual([other]);
  } else {
    expect(error).toBeUndefined();
  }
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  await expectStartAndStop(owner);
  expect(alive(other)).toBe(true);
  expect(await owner.asks('stopProcess', 'other')).toEqual({});
  await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
});

testWith('strace')('ERR_SPAWN: EAGAIN where the keeper cannot fork', async () => {
  const { owner, other, guardian } = await withGuardian();
  // strace counts for each process: the guardian forks for the second order, and its keeper fails to.
  const fault = await inject(world, guardian.pid, ['clone,clone3:error=EAGAIN:when=1'], { follow: true });
  for (let order = 1; order <= 2; order++) {
    expect((await owner.asks('startProcess', config())).error).toEqual(errorWith('ERR_SPAWN', 'EAGAIN'));
    expect(processesBeside(owner)).toEqual([other]);
    expect(fault.injected()).toBe(order);
  }
  expect(new Set(fault.calls().map((line) => line.split(' ')[0])).size).toBe(2);
  await fault.stop();
  await expectStartAndStop(owner);
});

testWith('strace').each([
  // As on an old kernel: kill(2), after another scan.
  ['pidfd_open:error=ENOSYS', 4],
  ['pidfd_open:error=EPERM', 4],
  // SIGTERM reaches no process the first time; SIGKILL is sent repeatedly.
  ['pidfd_open:error=EMFILE:when=1..8', 8],
  ['pidfd_open:error=ENFILE:when=1..12', 12],
  ['pidfd_send_signal:error=EPERM:when=1..12', 12],
])('keeper: the whole tree is stopped in spite of %s', async (injection, atLeast) => {
  const owner = commandedOwner();
  const { tree, keeper } = await withFamily(owner);
  const fault = await inject(world, keeper.pid, [injection]);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect(tree.filter(alive)).toEqual([]);
  await fault.stop();
  expect(fault.injected()).toBeGreaterThanOrEqual(atLeast);
  await expectStartAndStop(owner);
});

testWith('strace')('guardian: sweeps for a killed keeper where pidfd_open is unknown (ENOSYS)', async () => {
  const owner = commandedOwner();
  const { tree, keeper } = await withFamily(owner, { restart: { delay: 0 } });
  const fault = await inject(world, (await guardianOf(owner)).pid, ['pidfd_open:error=ENOSYS']);
  signal(keeper, 'SIGKILL');
  await until(() => !tree.some(alive));
  await owner.asks('reached', 'plugin', 'running');
  await fault.stop();
  expect(fault.injected()).toBeGreaterThan(0);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
});

testWith('strace')('ERR_STOP_FAILED: names a tree that cannot be killed, within 4 s, and keeps the record', async () => {
  const owner = commandedOwner();
  const { tree, leader, keeper } = await withFamily(owner, { shutdownGracePeriod: 50 });
  const record = fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8');
  const fault = await inject(world, keeper.pid, ['pidfd_send_signal:error=EPERM']);
  const began = performance.now();
  const { error } = await owner.asks('stopProcess', 'plugin');
  expect(performance.now() - began).toBeLessThan(4_000);
  expect(error).toEqual(errorWith('ERR_STOP_FAILED', String(leader.pid)));
  for (const { pid } of tree) expect(error.message).toContain(String(pid));
  expect((await owner.asks('getState', 'plugin')).value).toBe('error');
  expect(tree.every(alive)).toBe(true);
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${leader.pid}\n`);
  expect(fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8')).toBe(record);
  // A start makes no second daemon beside it.
  expect((await owner.asks('startProcess', config())).error).toEqual(errorWith('ERR_ALREADY_RUNNING'));

  await fault.stop();
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect(tree.filter(alive)).toEqual([]);
  await expectStartAndStop(owner);
});
