'use strict';

const fs = require('node:fs');
const { alive } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useStartAndStop } = require('./start-and-stop');

const world = useWorld();
const { stop, started } = useStartAndStop(world);

const LEADER_FIRST = ['leader', 'leader done', 'worker'];

/** The lines of records-signals.py. */
const signals = (marker) => fs.readFileSync(`${marker}.signals`, 'utf8').trim().split('\n');

test('stopSignalTo: a leader drains its pool of workers', async () => {
  const manager = world.manager();
  const marker = world.path('pool');
  await started(manager, ['drains-a-pool.py', marker], { shutdownGracePeriod: 20_000 });
  await until(() => fs.existsSync(`${marker}.working`));
  await stop(manager);
  expect(fs.readFileSync(`${marker}.drained`, 'utf8')).toBe('done');
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'stopped' });
});

test.each([
  [undefined, LEADER_FIRST],
  ['leader', LEADER_FIRST],
])('stopSignalTo: %s signals the leader, and the others after its exit', async (stopSignalTo, order) => {
  const manager = world.manager();
  const marker = world.path('marker');
  await started(manager, ['records-signals.py', marker], { shutdownGracePeriod: 20_000, stopSignalTo });
  const tree = await world.tree(marker);
  await stop(manager);
  expect(signals(marker)).toEqual(order);
  expectNothingLeft(world, 'plugin', Object.values(tree));
});

test('stopSignalTo: tree signals all at once', async () => {
  const manager = world.manager();
  const marker = world.path('marker');
  await started(manager, ['records-signals.py', marker], { shutdownGracePeriod: 20_000, stopSignalTo: 'tree' });
  await world.tree(marker);
  await stop(manager);
  expect(signals(marker).at(-1)).toBe('leader done');
  expect(signals(marker)).toHaveLength(3);
});

test('stopSignalTo: a shell that waits for its child ends without SIGKILL, and its trap has run', async () => {
  const manager = world.manager();
  const trapped = world.path('trapped');
  const code = `import socket, os, time; s = socket.socket(socket.AF_UNIX); s.bind(os.environ['SOCKET_PATH']); s.listen(9); time.sleep(60)`;
  const script = `trap 'echo yes > ${trapped}; exit 0' TERM; python3 -c "${code}"; exit 1`;
  await manager.startProcess(world.config('plugin', [], { command: 'sh', args: ['-c', script], shutdownGracePeriod: 800 }));
  expect(await stop(manager)).toBeGreaterThanOrEqual(595);
  expect(fs.existsSync(trapped)).toBe(true);
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0 });
});

test('stopSignalTo: a failed start signals the leader first', async () => {
  const marker = world.path('marker');
  const config = world.config('plugin', ['records-signals.py', marker, '--never-bind'], {
    startupTimeout: 1_500,
    shutdownGracePeriod: 20_000,
  });
  expect(await failure(world.manager().startProcess(config))).toMatchObject({ code: 'ERR_STARTUP_TIMEOUT' });
  expect(signals(marker)).toEqual(LEADER_FIRST);
});

test('stopSignalTo: an unhealthy daemon gets the signal at its leader first', async () => {
  const marker = world.path('marker');
  const manager = world.manager();
  const healthcheck = { interval: 100, timeout: 100, retries: 1 };
  await started(manager, ['records-signals.py', marker], { healthcheck, restart: { maxAttempts: 0 } });
  fs.unlinkSync(world.socket('plugin'));
  await until(() => manager.getState('plugin') === 'error');
  expect(signals(marker)).toEqual(LEADER_FIRST);
});

test("stopSignalTo: the owner's death signals the leader first", async () => {
  const marker = world.path('marker');
  const config = world.config('plugin', ['records-signals.py', marker], { shutdownGracePeriod: 20_000 });
  const owner = world.owner('starts-and-ends.js', { configs: [config] });
  await owner.says('ready');
  const tree = Object.values(await world.tree(marker));
  owner.child.kill('SIGKILL');
  await until(() => !tree.some(alive));
  expect(signals(marker)).toEqual(LEADER_FIRST);
});

test('stopSignalTo: the keeper of a dead owner signals the leader first at the next start', async () => {
  const marker = world.path('marker');
  const config = world.config('plugin', ['records-signals.py', marker], { shutdownGracePeriod: 20_000 });
  const owner = world.owner('starts-and-ends.js', { configs: [config], options: { onOwnerDeath: 'keep' } });
  await owner.says('ready');
  const tree = Object.values(await world.tree(marker));
  owner.child.kill('SIGKILL');
  await world.manager().startProcess(world.config('plugin'));
  expect(signals(marker)).toEqual(LEADER_FIRST);
  expect(tree.filter(alive)).toEqual([]);
});

test.each(['leader', 'tree'])('stopSignalTo: %s holds for an orphan', async (stopSignalTo) => {
  const marker = world.path('marker');
  world.makeFolder('plugin');
  world.orphan(['records-signals.py', marker], { socketPath: world.socket('plugin') });
  const { leader, worker } = await world.tree(marker);
  world.killAtEnd(leader, worker);
  await until(() => connects(world.socket('plugin')));
  fs.writeFileSync(world.pidFile('plugin'), `${leader.pid}\n`);
  await world.manager().startProcess(world.config('plugin', ['serves.py'], { shutdownGracePeriod: 20_000, stopSignalTo }));
  const seen = signals(marker);
  if (stopSignalTo === 'leader') expect(seen).toEqual(LEADER_FIRST);
  else expect(seen.at(-1)).toBe('leader done');
  expect(seen).toHaveLength(3);
  expect([leader, worker].filter(alive)).toEqual([]);
});
