'use strict';

// The socket for notifications after the death of its owner, and of everybody.

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { alive, ancestors, descendants, environment, identify, killTogether, signal } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

/** An owner with a daemon that sends WATCHDOG=1 for ever. */
async function owned(onOwnerDeath) {
  const config = world.config('plugin', ['counts-notifications.py', world.path('sent')], { readiness: { type: 'notify' } });
  const owner = world.owner('starts-and-ends.js', { options: { onOwnerDeath }, configs: [config] });
  const leader = identify((await owner.says('ready')).plugin);
  return { owner, leader, config, socket: environment(leader.pid).get('NOTIFY_SOCKET') };
}

const sent = () => Number(fs.readFileSync(world.path('sent'), 'utf8'));

testOnLinux("onOwnerDeath: 'keep': a daemon that notifies neither blocks nor fails, and the barrier is answered", async () => {
  const { owner, leader, config, socket } = await owned('keep');
  owner.child.kill('SIGKILL');
  await owner.exited;
  const before = sent();
  // Far more than the queue of a datagram socket holds.
  await until(() => sent() > before + 1_500, 15_000);
  expect(alive(leader)).toBe(true);
  expect(fs.existsSync(socket)).toBe(true);
  await world.manager().startProcess(config);
  expect(alive(leader)).toBe(false);
  await until(() => !fs.existsSync(socket));
});

testOnLinux("onOwnerDeath: 'stop': the file is removed with the tree", async () => {
  const { owner, leader, socket } = await owned('stop');
  owner.child.kill('SIGKILL');
  await until(() => !alive(leader) && !fs.existsSync(socket));
});

testOnLinux('notify: if everybody is killed, the next guardian removes the file, and leaves those in use', async () => {
  const first = await owned('keep');
  const used = world.manager();
  await used.startProcess(world.config('used', ['notifies.py', 'READY=1'], { readiness: { type: 'notify' } }));
  const inUse = environment(used.getPid('used')).get('NOTIFY_SOCKET');
  const below = [
    ...descendants(first.owner.pid),
    ...ancestors(first.leader.pid).filter(({ pid }) => descendants(first.owner.pid).some((found) => found.pid === pid)),
  ];
  const holders = [identify(first.owner.pid), ...below];
  killTogether(holders);
  // The file is there until a guardian starts, also one of another test.
  await until(() => ![...holders, first.leader].some(alive));
  const next = world.manager();
  await next.startProcess(world.config('next'));
  await until(() => !fs.existsSync(first.socket));
  expect(fs.existsSync(inUse)).toBe(true);
});

testOnLinux('notify: a killed keeper leaves no file', async () => {
  const manager = world.manager();
  await manager.startProcess(
    world.config('plugin', ['notifies.py', 'READY=1'], { readiness: { type: 'notify' }, restart: { maxAttempts: 0 } }),
  );
  const socket = environment(manager.getPid('plugin')).get('NOTIFY_SOCKET');
  signal(identify(ancestors(manager.getPid('plugin'))[0].pid), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'error');
  await until(() => !fs.existsSync(socket));
});
