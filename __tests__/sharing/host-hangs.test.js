'use strict';

const fs = require('node:fs');
const { testOnLinux, testWith } = require('../helpers/needs');
const { stat } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, host, frozenHost, suspendHost } = useSessions(world);

testOnLinux('a suspended host gets SIGCONT after 2 s', async () => {
  const manager = world.manager();
  await manager.startProcess(shared('other'));
  suspendHost();
  const begun = performance.now();
  await manager.startProcess(shared());
  expect(performance.now() - begun).toBeGreaterThan(1_900);
  expect(performance.now() - begun).toBeLessThan(4_000);
});

testOnLinux('a host that was suspended after it had read a call gets SIGCONT as well', async () => {
  const manager = world.manager();
  const marker = world.path('may-listen');
  const start = watch(manager.startProcess(shared('plugin', ['waits-for-a-file.py', marker, world.path('began')])));
  await until(() => fs.existsSync(world.path('began')));
  suspendHost();
  fs.writeFileSync(marker, '');
  await start.promise;
  expect(manager.isRunning('plugin')).toBe(true);
});

testOnLinux(
  'a host that is suspended again gets SIGCONT again',
  async () => {
    const manager = world.manager();
    const marker = world.path('may-listen');
    const start = watch(manager.startProcess(shared('plugin', ['waits-for-a-file.py', marker, world.path('began')])));
    await until(() => fs.existsSync(world.path('began')));
    suspendHost();
    await until(() => stat(host().pid).state !== 'T', 4_000, 'the host goes on');
    suspendHost();
    fs.writeFileSync(marker, '');
    await start.promise;
    expect(manager.isRunning('plugin')).toBe(true);
  },
  20_000,
);

testWith('ptrace')(
  'a start that is given up after 10 s is taken back when the host goes on',
  async () => {
    const [manager, second] = [world.manager(), world.manager()];
    await manager.startProcess(shared('other'));
    const { host, thaw } = await frozenHost();
    const begun = performance.now();
    const refused = await failure(manager.startProcess(shared()));
    expect(refused).toMatchObject({ code: 'ERR_INTERNAL', message: expect.stringContaining(String(host.pid)) });
    expect(performance.now() - begun).toBeGreaterThan(9_900);
    expect(manager.getState('plugin')).toBe('error');
    await thaw();
    // Behind the start that was given up.
    await manager.startProcess(shared('third'));
    await second.startProcess(shared());
    expect(second.getProcessInfo('plugin').sessions).toBe(1);
    expect(manager.getState('plugin')).toBe('error');
    await manager.startProcess(shared());
    await until(() => second.getProcessInfo('plugin').sessions === 2);
    expect(manager.getPid('plugin')).toBe(second.getPid('plugin'));
  },
  40_000,
);

testWith('ptrace')(
  'a start right after one that was given up is a start of its own',
  async () => {
    const manager = world.manager();
    await manager.startProcess(shared('other'));
    const { thaw } = await frozenHost();
    await failure(manager.startProcess(shared()));
    const again = manager.startProcess(shared());
    await thaw();
    await again;
    expect(manager.getState('plugin')).toBe('running');
    await manager.stopProcess('plugin');
    expect(manager.getState('plugin')).toBe('stopped');
  },
  40_000,
);
