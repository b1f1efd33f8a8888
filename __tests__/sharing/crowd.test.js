'use strict';

const { alive, identify } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, host, hostGone } = useSessions(world);

test('shared: 200 sessions of 8 processes that start one plugin in the same instant make one daemon and one host', async () => {
  const config = shared();
  const owners = Array.from({ length: 8 }, () => world.owner('is-many-sessions.js', { config, managers: 25 }, { ipc: true }));
  for (const owner of owners) await owner.says('ready');
  const at = performance.timeOrigin + performance.now() + 100;
  for (const owner of owners) owner.child.send({ at });
  const started = await Promise.all(owners.map((owner) => owner.says('started', 30_000)));
  expect(started.flatMap(({ failed }) => failed)).toEqual([]);
  const pids = new Set(started.flatMap(({ pids }) => pids));
  expect(pids.size).toBe(1);
  const daemon = identify([...pids][0]);
  const { pid } = host();
  // One half is killed, and the daemon stays for the other one.
  for (const owner of owners.slice(0, 4)) owner.child.kill('SIGKILL');
  for (const owner of owners.slice(0, 4)) await owner.exited;
  const late = world.manager();
  await late.startProcess(config);
  await until(() => late.getProcessInfo('plugin').sessions === 101);
  expect([late.getPid('plugin'), host().pid, alive(daemon)]).toEqual([daemon.pid, pid, true]);
  await late.stopProcess('plugin');
  for (const owner of owners.slice(4)) owner.child.send('leave');
  for (const owner of owners.slice(4)) await owner.exited;
  expectNothingLeft(world, 'plugin', [daemon]);
  await hostGone();
});

test('shared: a session that comes in the instant in which the last one leaves has a daemon, 40 times', async () => {
  const managers = [world.manager(), world.manager()];
  await managers[0].startProcess(shared());
  for (let round = 0; round < 40; round++) {
    const [leaves, comes] = round % 2 === 0 ? managers : [managers[1], managers[0]];
    // Each order of both calls, with a turn of the event loop between them or none.
    const calls = [() => leaves.stopProcess('plugin'), () => comes.startProcess(shared())];
    if (round % 4 > 1) calls.reverse();
    const first = calls[0]();
    if (round % 3 === 0) await new Promise(setImmediate);
    await Promise.all([first, calls[1]()]);
    expect([leaves.getState('plugin'), comes.getState('plugin')]).toEqual(['stopped', 'running']);
    expect(alive(identify(comes.getPid('plugin')))).toBe(true);
    await until(() => comes.getProcessInfo('plugin').sessions === 1);
  }
  expect(host()).toBeDefined();
});
