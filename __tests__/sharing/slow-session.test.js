'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { alive, identify, signal } = require('../helpers/proc');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, host, session, started, value } = useSessions(world);

test('a suspended session keeps its hold, and catches up when it goes on', async () => {
  // Long names make long messages.
  const configs = Array.from({ length: 10 }, (_, index) =>
    shared(`plugin-${index}-${'x'.repeat(200)}`, index === 1 ? ['prints-by-and-by.py', 50] : ['serves.py'], {
      socketPath: world.path(`${index}.sock`),
      restart: { maxAttempts: 5, delay: 1 },
    }),
  );
  const [{ pluginName }, { pluginName: printing }] = configs;
  const owner = session({ logged: true });
  for (const config of configs) expect(await owner.asks('startProcess', config)).toEqual({});
  const other = world.manager();
  for (const config of configs) await other.startProcess(config);
  const daemon = identify(other.getPid(pluginName));
  signal(owner.child.pid, 'SIGSTOP');
  // Each number of sessions is a message to those that have the plugin, and more than a megabyte of them wait.
  const passing = world.manager();
  for (let round = 0; round < 400; round++) {
    await Promise.all(configs.map((config) => passing.startProcess(config)));
    await Promise.all(configs.map((config) => passing.stopProcess(config.pluginName)));
  }
  await until(() => other.getProcessInfo(pluginName).sessions === 2);
  // Behind so much no line is sent.
  signal(identify(other.getPid(printing)), 'SIGUSR1');
  await until(() => other.getOutput(printing).length === 50);
  signal(daemon, 'SIGKILL');
  await until(() => runsAnew(other, pluginName, daemon.pid));
  owner.child.kill('SIGCONT');
  await until(async () => (await value(owner, 'getPid', pluginName)) === other.getPid(pluginName));
  expect(await value(owner, 'getProcessInfo', pluginName)).toMatchObject({ state: 'running', sessions: 2, totalRestarts: 1 });
  await until(async () => (await value(owner, 'records')).some((entry) => /warn: [1-9]\d* messages of the host .* were lost/.test(entry)));
  const lines = Array.from({ length: 50 }, (_, number) => String(number));
  await until(async () => (await value(owner, 'getOutput', printing)).length >= lines.length);
  expect(await value(owner, 'getOutput', printing)).toEqual(lines);
  await owner.asks('stopProcess', pluginName);
  expect(other.isRunning(pluginName)).toBe(true);
}, 120_000);

test('a session floods nobody: what it does not read of the output is dropped and counted', async () => {
  const config = shared('plugin', ['floods.py', 8, world.path('flood')]);
  const owner = session();
  await owner.asks('startProcess', config);
  signal(owner.child.pid, 'SIGSTOP');
  const other = world.manager();
  await other.startProcess(config);
  fs.writeFileSync(world.path('flood.go1'), '');
  await until(() => fs.existsSync(world.path('flood.1')), 30_000);
  owner.child.kill('SIGCONT');
  await until(async () => (await value(owner, 'getOutput', 'plugin')).length === 1_000);
  expect(identify(await value(owner, 'getPid', 'plugin'))).toEqual(identify(other.getPid('plugin')));
}, 60_000);

test('upgrades by others while a session is suspended: it gets all changed fields, and the host does not grow with their number', async () => {
  const config = shared();
  const { owner } = await started(config);
  const other = world.manager();
  await other.startProcess(config);
  signal(owner.child.pid, 'SIGSTOP');
  const big = (round) => ({ TEST_WORLD: world.dir, ROUND: String(round), BIG: 'x'.repeat(120_000) });
  const resident = () => Number(/^VmRSS:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${host().pid}/status`, 'utf8'))[1]);
  await other.upgradeProcess('plugin', { startupTimeout: 9_000, shutdownGracePeriod: 777 });
  for (let round = 0; round < 8; round++) await other.upgradeProcess('plugin', { envVars: big(round) });
  const before = resident();
  for (let round = 8; round < 40; round++) await other.upgradeProcess('plugin', { envVars: big(round) });
  // 32 messages of a quarter of a megabyte each would wait.
  expect(resident() - before).toBeLessThan(4_000);
  owner.child.kill('SIGCONT');
  const own = async () => (await value(owner, 'getProcessInfo', 'plugin')).config;
  await until(async () => (await own()).envVars.ROUND === '39');
  expect(await own()).toMatchObject({ shutdownGracePeriod: 777 });
}, 120_000);

test('an upgrade with more than a megabyte of envVars: a session that reads hears every event', async () => {
  const config = shared();
  const { owner, daemon } = await started(config, { logged: true });
  const other = world.manager();
  await other.startProcess(config);
  const events = record(other);
  for (const round of [1, 2, 3]) {
    const envVars = { TEST_WORLD: world.dir, ROUND: String(round) };
    for (let index = 0; index < 15; index++) envVars[`BIG_${index}`] = 'x'.repeat(100_000);
    await other.upgradeProcess('plugin', { envVars });
    await until(async () => (await value(owner, 'getProcessInfo', 'plugin')).config.envVars.ROUND === String(round));
  }
  signal(identify(other.getPid('plugin')), 'SIGKILL');
  await until(() => events.states('plugin').at(-1) === 'running');
  const told = ({ type, to, reason, pid }) => ({ type, to, reason, pid });
  const heard = async () => (await value(owner, 'recorded')).slice(2).map(told);
  await until(async () => (await heard()).length >= events.all.length);
  expect(await heard()).toEqual(events.all.map(told));
  expect((await value(owner, 'records')).filter((entry) => /lost/.test(entry))).toEqual([]);
  expect(alive(daemon)).toBe(false);
}, 60_000);
