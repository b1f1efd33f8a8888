'use strict';

const fs = require('node:fs');
const { between } = require('../helpers/commanded-owner');
const { testOnLinux } = require('../helpers/needs');
const { alive, identify, killTogether, signal, stat } = require('../helpers/proc');
const { watch } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useAnotherOwner } = require('./another-owner');

const world = useWorld();
const { GRACE, elsewhere } = useAnotherOwner(world);

testOnLinux('orphan: without owner and guardian the provable part of the tree is replaced at the next start', async () => {
  const marker = world.path('family');
  const kinds = ['stubborn', 'grouped', 'fled', 'quiet'];
  const { owner, daemon } = await elsewhere({
    configs: [world.config('plugin', ['leads-a-tree.py', marker, ...kinds], { shutdownGracePeriod: GRACE })],
  });
  const family = await world.tree(marker);
  const guardians = between(owner, daemon);
  expect(guardians.length).toBeGreaterThan(0);
  killTogether([identify(owner.pid), ...guardians]);
  await owner.exited;
  await until(() => !guardians.some(alive));

  const warnings = [];
  const manager = world.manager({ logger: { debug() {}, info() {}, error() {}, warn: (text, fields) => warnings.push({ text, fields }) } });
  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: GRACE }));
  expect(manager.isRunning('plugin')).toBe(true);
  expect(manager.getPid('plugin')).not.toBe(daemon.pid);
  expect(await connects(world.socket('plugin'))).toBe(true);
  // A process in a session of its own has nothing left that proves where it came from, so it is not signalled.
  const { fled, quiet, ...provable } = { leader: daemon, ...family };
  world.killAtEnd(fled, quiet);
  expect(Object.keys(provable).filter((kind) => alive(provable[kind]))).toEqual([]);
  expect([fled, quiet].every(alive)).toBe(true);
  const doubtful = warnings.filter(({ text }) => text.includes('origin is not proven'));
  expect(doubtful).toHaveLength(1);
  const pids = [fled.pid, quiet.pid].sort((one, other) => one - other).join(', ');
  expect(doubtful[0]).toMatchObject({ text: expect.stringContaining(pids), fields: { pluginName: 'plugin', pids } });
  expect(warnings.find(({ text }) => text.includes('what a dead owner left')).fields.pids).toContain(String(family.stubborn.pid));
});

testOnLinux('orphan: without owner and guardian, a leader that called setsid(2) and its tree are stopped', async () => {
  const marker = world.path('family');
  const config = world.config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'grouped'], { shutdownGracePeriod: GRACE });
  const { owner, daemon } = await elsewhere({ configs: [{ ...config, command: 'setsid', args: [config.command, ...config.args] }] });
  expect(stat(daemon.pid).session).toBe(daemon.pid);
  const family = Object.values(await world.tree(marker));
  const guardians = between(owner, daemon);
  killTogether([identify(owner.pid), ...guardians]);
  await owner.exited;
  await until(() => !guardians.some(alive));

  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: GRACE }));
  expect([daemon, ...family].filter(alive)).toEqual([]);
});

testOnLinux('orphan: without owner and guardian a process forked on SIGTERM is swept as well', async () => {
  const marker = world.path('family');
  const { owner, daemon } = await elsewhere({ configs: [world.config('plugin', ['leads-a-tree.py', marker, 'forksAndExits'])] });
  const { forksAndExits } = await world.tree(marker);
  const helpers = between(owner, daemon);
  killTogether([identify(owner.pid), ...helpers]);
  await owner.exited;
  await until(() => ![...helpers, daemon].some(alive));
  expect(alive(forksAndExits)).toBe(true);

  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: GRACE }));
  const forked = identify(Number(fs.readFileSync(`${marker}.forked`, 'utf8')));
  expect([forksAndExits, forked].filter(alive)).toEqual([]);
  expect(manager.isRunning('plugin')).toBe(true);
});

testOnLinux('orphan: of onOwnerDeath keep without owner and guardian is replaced at the next start', async () => {
  const { owner, daemon } = await elsewhere({ options: { onOwnerDeath: 'keep' }, configs: [world.config('plugin')] });
  const guardians = between(owner, daemon);
  killTogether([identify(owner.pid), ...guardians]);
  await owner.exited;
  await until(() => !guardians.some(alive));

  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  expect(alive(daemon)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
});

test('orphan: with a bare daemon.pid its own POSIX sessions and processes forked on SIGTERM are swept', async () => {
  const marker = world.path('family');
  world.makeFolder('plugin');
  const old = world.orphan(['leads-a-tree.py', marker, 'apart', 'forks'], { socketPath: world.socket('plugin') });
  const family = Object.values(await world.tree(marker));
  await until(() => connects(world.socket('plugin')));
  fs.writeFileSync(world.pidFile('plugin'), `${old.pid}\n`);

  const manager = world.manager();
  const start = watch(manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: GRACE })));
  // Forked after SIGTERM had been sent to the whole tree.
  const forked = await world.process(`${marker}.forked`);
  expect(start.settled).toBe(false);
  await start.promise;
  expect([old, ...family, forked].filter(alive)).toEqual([]);
  expect(manager.isRunning('plugin')).toBe(true);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

testOnLinux('orphan: with a bare daemon.pid processes forked while it is killed are swept', async () => {
  const marker = world.path('children');
  world.makeFolder('plugin');
  const old = world.orphan(['forks-every-millisecond.py', marker], { socketPath: world.socket('plugin') });
  const forked = () => {
    const pids = fs.existsSync(marker) ? fs.readFileSync(marker, 'utf8').split('\n').filter(Boolean) : [];
    return pids.map((pid) => identify(Number(pid)));
  };
  world.finally(() => {
    for (const child of forked()) signal(child, 'SIGKILL');
  });
  await until(() => forked().length > 20);
  fs.writeFileSync(world.pidFile('plugin'), `${old.pid}\n`);

  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 0 }));
  expect([old, ...forked()].filter(alive)).toEqual([]);
  expect(manager.isRunning('plugin')).toBe(true);
});
