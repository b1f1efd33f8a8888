'use strict';

// What dies while two generations are there.

const fs = require('node:fs');
const { ask } = require('../helpers/ask');
const { between, useCommandedOwner } = require('../helpers/commanded-owner');
const { testOnLinux } = require('../helpers/needs');
const { alive, commandLine, identify, signal } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');

const world = useWorld();
const { commandedOwner, config, processesBeside } = useCommandedOwner(world);

const named = (...args) => script('answers-its-name.py', ...args);
const FIXTURE = ['answers-its-name.py', 'one'];
const sockets = () => fs.readdirSync(world.folder('plugin')).filter((name) => /sock/.test(name));

/** An owner in whose upgrade both generations live: the new one never becomes ready, or the old one ignores the stop signal. */
async function upgrading(half, { options, changes } = {}) {
  const owner = commandedOwner({ options });
  const old = half === 'leaving' ? ['answers-its-name.py', 'one', 'stays'] : FIXTURE;
  await owner.asks('startProcess', config('plugin', old, { shutdownGracePeriod: half === 'leaving' ? 20_000 : 300, ...changes }));
  const { value: oldPid } = await owner.asks('getPid', 'plugin');
  const args = half === 'leaving' ? named('two') : named('two', 'never');
  const upgrade = owner.asks('upgradeProcess', 'plugin', { args, shutdownGracePeriod: 300 });
  // The owner may die with the answer.
  upgrade.catch(() => {});
  const leader = await until(() => processesBeside(owner).find(({ pid }) => pid !== oldPid && commandLine(pid).includes(' two')));
  if (half === 'leaving') await until(async () => (await owner.asks('getPid', 'plugin')).value !== oldPid);
  return { owner, upgrade, old: identify(oldPid), next: identify(leader.pid) };
}

testOnLinux.each(['starting', 'leaving'])('onOwnerDeath: SIGKILL while a generation is %s leaves no process', async (half) => {
  const { owner, old, next } = await upgrading(half, { changes: { shutdownGracePeriod: 300 } });
  signal(identify(owner.pid), 'SIGKILL');
  await owner.exited;
  // A process that is exiting has no environment any more, and lives a moment longer.
  await until(() => processesBeside(owner).length === 0 && ![old, next].some(alive), 5_000, 'both trees and their keepers are gone');
  const manager = world.manager();
  await manager.startProcess(config('plugin', FIXTURE));
  expect(await ask(world.socket('plugin'))).toContain('one');
  await manager.stopProcess('plugin');
  expect(sockets()).toEqual([]);
});

testOnLinux.each(['starting', 'leaving'])('onOwnerDeath keep: the next start ends both generations (%s)', async (half) => {
  const { owner, old, next } = await upgrading(half, { options: { onOwnerDeath: 'keep' }, changes: { shutdownGracePeriod: 300 } });
  signal(identify(owner.pid), 'SIGKILL');
  await owner.exited;
  const manager = world.manager();
  await manager.startProcess(config('plugin', ['answers-its-name.py', 'three']));
  expect([old, next].filter(alive)).toEqual([]);
  expect(await ask(world.socket('plugin'))).toContain('three');
  await manager.stopProcess('plugin');
  expect(sockets()).toEqual([]);
});

testOnLinux('orphans: owner and keepers killed during an upgrade, and the next start finds both generations', async () => {
  const { owner, old, next } = await upgrading('starting');
  const helpers = [old, next].flatMap((leader) => between(owner, leader));
  for (const process of [identify(owner.pid), ...helpers]) signal(process, 'SIGKILL');
  await owner.exited;
  const manager = world.manager();
  await manager.startProcess(config('plugin', FIXTURE));
  expect([old, next].filter(alive)).toEqual([]);
});

testOnLinux('upgradeProcess: a killed keeper of the new generation fails the upgrade', async () => {
  const { owner, upgrade, old, next } = await upgrading('starting');
  const keeper = between(owner, next)[0];
  signal(keeper, 'SIGKILL');
  expect((await upgrade).error).toMatchObject({ code: 'ERR_UPGRADE' });
  expect(alive(next)).toBe(false);
  expect(alive(old)).toBe(true);
  expect(await ask(world.socket('plugin'))).toContain('one');
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${old.pid}\n`);
});

testOnLinux('upgradeProcess: a killed keeper of the old generation ends it', async () => {
  const { owner, upgrade, old, next } = await upgrading('leaving');
  signal(between(owner, old)[0], 'SIGKILL');
  expect(await upgrade).toEqual({});
  expect(alive(old)).toBe(false);
  expect(alive(next)).toBe(true);
  expect(await ask(world.socket('plugin'))).toContain('two');
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${next.pid}\n`);
});

testOnLinux('upgradeProcess: a crash of the new generation while the old one leaves is restarted', async () => {
  const { owner, upgrade, old, next } = await upgrading('leaving', { changes: { restart: { delay: 0 } } });
  signal(next, 'SIGKILL');
  const pid = await until(async () => {
    const { value } = await owner.asks('getProcessInfo', 'plugin');
    return value.state === 'running' && value.pid !== next.pid && value.pid;
  });
  expect(alive(old)).toBe(true);
  expect(await ask(world.socket('plugin'))).toBe(`two ${pid}`);
  signal(old, 'SIGKILL');
  expect(await upgrade).toEqual({});
});

testOnLinux('upgradeProcess: a frozen keeper of the old generation is killed, and the upgrade resolves', async () => {
  const { owner, upgrade, old } = await upgrading('leaving', { changes: { shutdownGracePeriod: 2_000 } });
  signal(between(owner, old)[0], 'SIGSTOP');
  expect(await upgrade).toEqual({});
  expect(alive(old)).toBe(false);
});
