'use strict';

const fs = require('node:fs');
const { signal, identify } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, session, started, value } = useSessions(world);

test('a suspended session keeps its hold, and catches up when it goes on', async () => {
  const config = shared('plugin', ['serves.py'], { restart: { maxAttempts: 5, delay: 1 } });
  const { owner, daemon } = await started(config, { logged: true });
  const other = world.manager();
  await other.startProcess(config);
  owner.child.kill('SIGSTOP');
  // Each number of sessions is a message to the other session, and more than a megabyte of them wait.
  const passing = world.manager();
  for (let index = 0; index < 2_500; index++) {
    await passing.startProcess(config);
    await passing.stopProcess('plugin');
  }
  expect(other.getProcessInfo('plugin').sessions).toBe(2);
  signal(daemon, 'SIGKILL');
  await until(() => other.isRunning('plugin') && other.getPid('plugin') !== daemon.pid);
  owner.child.kill('SIGCONT');
  await until(async () => (await value(owner, 'getPid', 'plugin')) === other.getPid('plugin'));
  expect(await value(owner, 'getProcessInfo', 'plugin')).toMatchObject({ state: 'running', sessions: 2, totalRestarts: 1 });
  await until(async () => (await value(owner, 'records')).some((entry) => /warn: [1-9]\d* messages of the host .* were lost/.test(entry)));
  await owner.asks('stopProcess', 'plugin');
  expect(other.isRunning('plugin')).toBe(true);
}, 120_000);

test('a session floods nobody: what it does not read of the output is dropped and counted', async () => {
  const config = shared('plugin', ['floods.py', 8, world.path('flood')]);
  const owner = session();
  await owner.asks('startProcess', config);
  owner.child.kill('SIGSTOP');
  const other = world.manager();
  await other.startProcess(config);
  fs.writeFileSync(world.path('flood.go1'), '');
  await until(() => fs.existsSync(world.path('flood.1')), 30_000);
  owner.child.kill('SIGCONT');
  await until(async () => (await value(owner, 'getOutput', 'plugin')).length === 1_000);
  expect(identify((await value(owner, 'getPid', 'plugin')))).toEqual(identify(other.getPid('plugin')));
}, 60_000);
