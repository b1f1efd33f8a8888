'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { testOnLinux, testWith } = require('../helpers/needs');
const { alive, identify, signal } = require('../helpers/proc');
const { watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, spoil, started, value } = useSessions(world);

/** The sockets of this process. */
const sockets = () =>
  fs.readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      return false;
    }
  });

/** Calls `connect`, and returns a function that sends bytes to the host that are no message. */
async function spoiling(connect) {
  const before = new Set(sockets());
  await connect();
  const added = sockets().filter((fd) => !before.has(fd));
  expect(added).toHaveLength(1);
  return () => fs.writeSync(Number(added[0]), Buffer.alloc(64, 0xff));
}

testOnLinux('a session whose connection ends by a protocol error keeps its daemon, and hears nothing', async () => {
  const manager = world.manager();
  const spoil = await spoiling(() => manager.startProcess(shared()));
  const daemon = identify(manager.getPid('plugin'));
  const events = record(manager);
  spoil();
  await manager.startProcess(shared('other'));
  expect(alive(daemon)).toBe(true);
  expect(manager.getPid('plugin')).toBe(daemon.pid);
  expect(events.all.filter(({ pluginName }) => pluginName === 'plugin')).toEqual([]);
  await manager.restartProcess('plugin');
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running', sessions: 1 });
  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopped');
});

testOnLinux('logs that follow have each line once over a protocol error', async () => {
  const manager = world.manager();
  const config = shared('plugin', ['prints-by-and-by.py', 100]);
  const spoil = await spoiling(() => manager.startProcess(config));
  const logs = manager.logs('plugin', { follow: true });
  const print = () => signal(identify(manager.getPid('plugin')), 'SIGUSR1');
  const lines = [];
  const read = async (count) => {
    while (lines.length < count) lines.push((await logs.next()).value.line);
  };
  print();
  await read(50);
  spoil();
  await read(100);
  await manager.startProcess(shared('other'));
  print();
  await read(200);
  const numbers = Array.from({ length: 200 }, (_, number) => String(number));
  expect(lines).toEqual(numbers);
  expect(manager.getOutput('plugin')).toEqual(numbers);
});

testOnLinux('a start that is under way goes on after a protocol error', async () => {
  const manager = world.manager();
  const spoil = await spoiling(() => manager.startProcess(shared('other')));
  const marker = world.path('may-listen');
  const start = watch(manager.startProcess(shared('plugin', ['waits-for-a-file.py', marker, world.path('began')])));
  await until(() => fs.existsSync(world.path('began')));
  const daemon = identify(await until(() => manager.getPid('plugin')));
  spoil();
  await manager.startProcess(shared('third'));
  fs.writeFileSync(marker, '');
  await start.promise;
  expect(manager.getPid('plugin')).toBe(daemon.pid);
});

testWith('ptrace')('a restart whose answer is lost by a protocol error is answered, and not carried out again', async () => {
  const [marker, began] = [world.path('may-listen'), world.path('began')];
  const config = shared('plugin', ['waits-for-a-file.py', marker, began]);
  fs.writeFileSync(marker, '');
  const other = world.manager();
  const { owner } = await started(config);
  await other.startProcess(config);
  const events = record(other);
  fs.unlinkSync(marker);
  fs.unlinkSync(began);
  const restarted = owner.asks('restartProcess', 'plugin');
  await until(() => fs.existsSync(began));
  signal(owner.child.pid, 'SIGSTOP');
  spoil(owner);
  // The answer comes behind what is no message.
  fs.writeFileSync(marker, '');
  await until(() => other.isRunning('plugin'));
  const pid = other.getPid('plugin');
  owner.child.kill('SIGCONT');
  expect(await restarted).toEqual({});
  expect(await value(owner, 'getPid', 'plugin')).toBe(pid);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect([other.getPid('plugin'), events.of('exit').length]).toEqual([pid, 1]);
});

testWith('ptrace')('upgrades by another session that are lost by a protocol error come with the next connection', async () => {
  const { owner } = await started();
  const other = world.manager();
  await other.startProcess(shared());
  signal(owner.child.pid, 'SIGSTOP');
  spoil(owner);
  await other.upgradeProcess('plugin', { envVars: { TEST_WORLD: world.dir, NEXT: '1' } });
  await other.upgradeProcess('plugin', { shutdownGracePeriod: 777 });
  owner.child.kill('SIGCONT');
  const config = async () => (await value(owner, 'getProcessInfo', 'plugin')).config;
  await until(async () => (await config()).shutdownGracePeriod === 777);
  expect((await config()).envVars.NEXT).toBe('1');
});
