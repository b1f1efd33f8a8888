'use strict';

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { alive, children, descendants, identify, signal } = require('../helpers/proc');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useOwnedTree } = require('./owned-tree');

const world = useWorld();
const { DAEMONS_GONE, expectGone, owned, brood, KINDS, GRACE } = useOwnedTree(world);

test.each([
  ['returns', 'return', { code: 0, signal: null }],
  ['calls process.exit', 'exit', { code: 3, signal: null }],
  ['throws', 'throw', { code: 1, signal: null }],
  ['leaves a rejection unhandled', 'reject', { code: 1, signal: null }],
  ['aborts', 'abort', { code: null, signal: 'SIGABRT' }],
])('onOwnerDeath stop: the tree is gone when the owner %s', async (_, end, expected) => {
  const { owner, family, leader } = await owned({ end });
  // The owner ends as it would without a manager.
  expect(await owner.exited).toEqual(expected);
  await expectGone([leader, ...family], DAEMONS_GONE);
  if (end === 'throw') expect(owner.errors).toContain('thrown on purpose');
  if (end === 'reject') expect(owner.errors).toContain('rejected on purpose');
});

test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'])(
  'onOwnerDeath stop: the tree and the guardian are gone when the owner gets %s',
  async (name) => {
    const { owner, family, leader } = await owned();
    const all = brood(owner, leader);
    expect(all.length).toBeGreaterThan(family.length);
    owner.child.kill(name);
    expect(await owner.exited).toEqual({ code: null, signal: name });
    await expectGone([leader, ...family], DAEMONS_GONE);
    // The guardian exits when no keeper is left.
    await expectGone(all, 1_000);
  },
);

test("onOwnerDeath stop: the tree is gone when the owner's process group gets SIGINT", async () => {
  const { owner, family, leader } = await owned({}, { detached: true });
  const all = brood(owner, leader);
  process.kill(-owner.pid, 'SIGINT');
  expect(await owner.exited).toEqual({ code: null, signal: 'SIGINT' });
  await expectGone([leader, ...family], DAEMONS_GONE);
  await expectGone(all, 1_000);
});

test("onOwnerDeath stop: the tree is gone when the owner's process group gets SIGKILL", async () => {
  const { owner, family, leader } = await owned({}, { detached: true });
  process.kill(-owner.pid, 'SIGKILL');
  await owner.exited;
  await expectGone([leader, ...family], DAEMONS_GONE);
});

test("onOwnerDeath stop: the record is removed after the owner's SIGKILL", async () => {
  const { owner, leader } = await owned();
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${leader.pid}\n`);
  owner.child.kill('SIGKILL');
  await owner.exited;
  const record = () => fs.readdirSync(world.folder('plugin')).filter((name) => /^daemon\.(pid|id)$/.test(name));
  await until(() => record().length === 0);
  expect(alive(leader)).toBe(false);
});

test('onOwnerDeath stop: the record of a daemon that ended while the owner was stopped is removed', async () => {
  const { owner, family, leader } = await owned();
  const pidFile = world.pidFile('plugin');
  expect(fs.existsSync(pidFile)).toBe(true);
  signal(owner.child.pid, 'SIGSTOP');
  for (const process of [leader, ...family]) signal(process, 'SIGKILL');
  await until(() => !fs.existsSync(pidFile));
  owner.child.kill('SIGKILL');
  await owner.exited;
});

test('onOwnerDeath stop: a starting tree is gone after SIGKILL', async () => {
  const { owner, family, leader } = await owned({ when: 'starting' }, { fixture: ['--never-bind', ...KINDS] });
  const all = brood(owner, leader);
  owner.child.kill('SIGKILL');
  await owner.exited;
  await expectGone([leader, ...family], DAEMONS_GONE);
  await expectGone(all, 1_000);
});

test('onOwnerDeath stop: a stopping tree is gone after SIGKILL', async () => {
  const { owner, family, leader } = await owned({ when: 'stopping' });
  owner.child.kill('SIGKILL');
  await owner.exited;
  await expectGone([leader, ...family], DAEMONS_GONE);
});

test('onOwnerDeath stop: a starting tree is gone after process.exit', async () => {
  const { owner, family, leader } = await owned({ when: 'starting', end: 'exit' }, { fixture: ['--never-bind', ...KINDS] });
  expect(await owner.exited).toEqual({ code: 3, signal: null });
  await expectGone([leader, ...family], DAEMONS_GONE);
});

test('onOwnerDeath stop: SIGKILL amid twelve starts leaves no daemon', async () => {
  // The owner is killed as soon as one of its twelve plugins has a pid file.
  const configs = Array.from({ length: 12 }, (_, index) => world.config(`plugin-${index}`, ['serves.py'], { shutdownGracePeriod: GRACE }));
  const owner = world.owner('starts-and-ends.js', { configs });
  await until(() => configs.some(({ pluginName }) => fs.existsSync(world.pidFile(pluginName))));
  const found = descendants(owner.pid);
  owner.child.kill('SIGKILL');
  await owner.exited;
  await expectGone(found, DAEMONS_GONE + 1_000);
  // Starts that were under way leave nothing: the World looks for them at the end of the test.
  await until(() => configs.every(({ socketPath }) => !fs.existsSync(socketPath)));
});

test('onOwnerDeath stop: a daemon that exits on stopSignal needs no grace period', async () => {
  const owner = world.owner('starts-and-ends.js', {
    configs: [world.config('plugin', ['records-stop-signal.py', world.path('heard')], { shutdownGracePeriod: 20_000 })],
  });
  const leader = identify((await owner.says('ready')).plugin);
  owner.child.kill('SIGKILL');
  await owner.exited;
  await expectGone([leader], 2_000);
  expect(fs.readFileSync(world.path('heard'), 'utf8')).toBe('15');
});

test('onOwnerDeath stop: a daemon stopped by SIGSTOP is woken to handle stopSignal', async () => {
  const owner = world.owner('starts-and-ends.js', {
    configs: [world.config('plugin', ['records-stop-signal.py', world.path('heard')], { shutdownGracePeriod: 20_000 })],
  });
  const leader = identify((await owner.says('ready')).plugin);
  signal(leader, 'SIGSTOP');
  owner.child.kill('SIGKILL');
  await owner.exited;
  await expectGone([leader], 2_000);
  expect(fs.readFileSync(world.path('heard'), 'utf8')).toBe('15');
});

test.each(['terminate', 'worker-exit', 'worker-return'])('onOwnerDeath stop: the tree of a worker is gone after %s', async (end) => {
  const { owner, family, leader } = await owned({ end }, { script: 'starts-in-a-worker.js' });
  await owner.says('workerExit');
  await expectGone([leader, ...family], DAEMONS_GONE);
  // The process lives on, without a child.
  expect(owner.gone).toBe(false);
  await until(() => children(owner.pid).length === 0, 5_000);
});

testOnLinux('onOwnerDeath stop: another manager of the process waits for the tree of a terminated worker', async () => {
  const next = ['plugin', 'other'].map((name) => world.config(name, ['serves.py'], { shutdownGracePeriod: GRACE }));
  const { owner, family, leader } = await owned({ end: 'terminate', next }, { script: 'starts-in-a-worker.js', fixture: ['stubborn'] });
  const said = await owner.says('next');
  expect([leader, ...family].filter(alive)).toEqual([]);
  // The start is neither refused with the pid of its own process, nor resolved while the keeper was stopped.
  expect(said).toEqual({ waited: true, pid: expect.any(Number) });
  expect(alive(said.pid)).toBe(true);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test("onOwnerDeath stop: the tree of a worker is gone after process.exit in the worker's process", async () => {
  const { owner, family, leader } = await owned({ end: 'exit' }, { script: 'starts-in-a-worker.js' });
  expect(await owner.exited).toEqual({ code: 3, signal: null });
  await expectGone([leader, ...family], DAEMONS_GONE);
});
