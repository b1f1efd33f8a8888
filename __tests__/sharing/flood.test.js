'use strict';

// A shared daemon that floods: what it costs the host and the sessions.

const fs = require('node:fs');
const { identify, signal } = require('../helpers/proc');
const { testOnLinux } = require('../helpers/needs');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, session, host, value } = useSessions(world);

/** In KiB: what a process has of memory, and what it had at most since `forgetPeak`. */
function memory(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'latin1');
  const [now, peak] = ['VmRSS', 'VmHWM'].map((key) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)[1]));
  return { now, peak };
}

const forgetPeak = (pid) => fs.writeFileSync(`/proc/${pid}/clear_refs`, '5');

/** Lets floods.py write. */
async function flood(number = 1) {
  fs.writeFileSync(world.path(`flood.go${number}`), '');
  await until(() => fs.existsSync(world.path(`flood.${number}`)), 60_000);
}

const numbers = (from, to) => Array.from({ length: to - from }, (_, index) => String(from + index));

test('getOutput has each line without a listener; a listener and logs() get what comes after them, and nothing twice', async () => {
  const count = 300;
  const config = shared('plugin', ['prints-by-and-by.py', count]);
  const [manager, other] = [world.manager(), world.manager()];
  for (const each of [manager, other]) await each.startProcess(config);
  const daemon = identify(manager.getPid('plugin'));
  const printed = async (rounds) => {
    signal(daemon, 'SIGUSR1');
    for (const each of [manager, other]) await until(() => each.getOutput('plugin').at(-1) === String(rounds * count - 1));
    for (const each of [manager, other]) expect(each.getOutput('plugin')).toEqual(numbers(0, rounds * count));
  };
  await printed(1);
  const heard = [];
  const listener = ({ line }) => heard.push(line);
  manager.on('output', listener);
  const logs = other.logs('plugin', { lines: 0, follow: true });
  const followed = [];
  const following = (async () => {
    for await (const { line } of logs) if (followed.push(line) === count) return;
  })();
  await printed(2);
  await following;
  await until(() => heard.length === count);
  manager.off('output', listener);
  await printed(3);
  expect(heard).toEqual(numbers(count, 2 * count));
  expect(followed).toEqual(numbers(count, 2 * count));
});

test('what was written before an exit, or before the session lets go, is in getOutput then', async () => {
  const config = shared('plugin', ['prints-by-and-by.py', 2_000], { restart: { maxAttempts: 0, delay: 1 } });
  const [leaves, quiet, hears] = [world.manager(), world.manager(), world.manager()];
  for (const each of [leaves, quiet, hears]) await each.startProcess(config);
  hears.on('output', () => {});
  const length = (manager) => manager.getOutput('plugin').length;
  const daemon = identify(quiet.getPid('plugin'));
  signal(daemon, 'SIGUSR1');
  await until(() => length(hears) > 100);
  const seen = length(hears);
  await leaves.stopProcess('plugin');
  expect(length(leaves)).toBeGreaterThanOrEqual(seen);
  const atExit = new Promise((resolve) => quiet.once('exit', () => resolve(length(quiet))));
  await until(() => length(hears) > seen + 100);
  signal(daemon, 'SIGKILL');
  expect(await atExit).toBeGreaterThan(seen + 100);
  expect(await atExit).toBe(length(quiet));
});

testOnLinux(
  'a flood, and sessions that do not read: the memory of the host stays bounded, and each keeps its hold',
  async () => {
    const config = shared('plugin', ['floods.py', 100, world.path('flood')]);
    const suspended = Array.from({ length: 5 }, () => session());
    for (const owner of suspended) {
      await owner.asks('listen');
      expect(await owner.asks('startProcess', config)).toEqual({});
    }
    const managers = Array.from({ length: 5 }, () => world.manager());
    for (const manager of managers) await manager.startProcess(config);
    let heard = 0;
    managers[0].on('output', () => heard++);
    const { pid } = identify(managers[0].getPid('plugin'));
    const { pid: hostPid } = host();
    for (const owner of suspended) signal(owner.child.pid, 'SIGSTOP');
    const before = memory(hostPid).now;
    forgetPeak(hostPid);
    await flood();
    const grown = memory(hostPid).peak - before;
    // 1 MiB for each of ten, beside what the queues of the listeners and the daemon's own tail have.
    expect(grown).toBeLessThan(24 * 1024);
    for (const owner of suspended) owner.child.kill('SIGCONT');
    for (const owner of suspended) await until(async () => (await value(owner, 'getOutput', 'plugin')).length === 1_000);
    for (const owner of suspended) expect(await value(owner, 'getPid', 'plugin')).toBe(pid);
    for (const manager of managers) expect(manager.getProcessInfo('plugin')).toMatchObject({ pid, sessions: 10 });
    expect(heard).toBeGreaterThan(1_000);
  },
  90_000,
);

test.each([
  ['another session keeps the daemon', 'kept'],
  ['the daemon has ended', 'ended'],
  ['the host was killed meanwhile', 'killed'],
])('logs that follow and getOutput: go on after this session let go and starts again, no line missing or doubled: %s', async (_, end) => {
  const count = 50;
  const [manager, other] = [world.manager(), world.manager()];
  const config = shared('plugin', ['prints-by-and-by.py', count]);
  const followed = [];
  const ended = new AbortController();
  await manager.startProcess(config);
  if (end === 'kept') await other.startProcess(config);
  const following = (async () => {
    for await (const { line } of manager.logs('plugin', { follow: true, signal: ended.signal })) followed.push(line);
  })();
  const printed = (reader, last) => {
    signal(identify(reader.getPid('plugin')), 'SIGUSR1');
    return until(() => reader.getOutput('plugin').at(-1) === String(last));
  };
  await printed(manager, count - 1);
  await manager.stopProcess('plugin');
  if (end === 'kept') await printed(other, 2 * count - 1);
  else if (end === 'killed') {
    await other.startProcess(config);
    const former = host();
    signal(former, 'SIGKILL');
    await until(() => other.isRunning('plugin') && host()?.pid !== former.pid);
    await other.stopProcess('plugin');
  }
  await manager.startProcess(config);
  const all = end === 'kept' ? numbers(0, 3 * count) : [...numbers(0, count), ...numbers(0, count)];
  await printed(manager, all.at(-1));
  await until(() => followed.length >= all.length);
  expect(manager.getOutput('plugin')).toEqual(all);
  ended.abort();
  await following;
  expect(followed).toEqual(all);
});

test('logs that follow end when a shared plugin is started as an exclusive one and back, and not when that is refused', async () => {
  const [manager, other] = [world.manager(), world.manager()];
  const config = shared('plugin', ['prints-by-and-by.py', 1]);
  const { shared: _, ...exclusive } = config;
  const print = (of) => signal(identify(of.getPid('plugin')), 'SIGUSR1');
  for (const each of [manager, other]) await each.startProcess(config);
  const logs = manager.logs('plugin', { follow: true });
  await manager.stopProcess('plugin');
  expect(await failure(manager.startProcess(exclusive))).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE' });
  await manager.startProcess(config);
  print(manager);
  await expect(logs.next()).resolves.toMatchObject({ done: false, value: { line: '0' } });
  for (const each of [manager, other]) await each.stopProcess('plugin');
  await until(() => host() === undefined);
  const ended = logs.next();
  await manager.startProcess(exclusive);
  await expect(ended).resolves.toEqual({ done: true, value: undefined });
  const back = manager.logs('plugin', { lines: 0, follow: true });
  await manager.stopProcess('plugin');
  await manager.startProcess(config);
  await expect(back.next()).resolves.toEqual({ done: true, value: undefined });
});
