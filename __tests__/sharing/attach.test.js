'use strict';

const fs = require('node:fs');
const { useCli } = require('../helpers/cli');
const { alive, identify } = require('../helpers/proc');
const { record } = require('../helpers/events');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const cli = useCli(world);
const { folder, shared, host, hostGone, started, kill, value } = useSessions(world);

test('shared: two processes have one daemon, which the last one stops', async () => {
  const first = await started();
  const second = await started();
  expect(second.daemon).toEqual(first.daemon);
  for (const { owner } of [first, second]) {
    // Each hears by itself of the other.
    await until(async () => (await value(owner, 'getProcessInfo', 'plugin')).sessions === 2);
    expect(await value(owner, 'getProcessInfo', 'plugin')).toMatchObject({ state: 'running', pid: first.daemon.pid });
  }
  expect(await first.owner.asks('stopProcess', 'plugin')).toEqual({});
  expect(await value(first.owner, 'getState', 'plugin')).toBe('stopped');
  expect(await value(first.owner, 'getPid', 'plugin')).toBeUndefined();
  expect(alive(first.daemon)).toBe(true);
  expect(await connects(world.socket('plugin'))).toBe(true);
  await until(async () => (await value(second.owner, 'getProcessInfo', 'plugin')).sessions === 1);
  expect(await second.owner.asks('stopProcess', 'plugin')).toEqual({});
  expectNothingLeft(world, 'plugin', [first.daemon]);
  await hostGone();
  expect(fs.readdirSync(folder())).toEqual(['host.lock']);
});

test('shared: the SIGKILL of the first session is noticed by nobody, and the last one leaves nothing', async () => {
  const first = await started();
  const second = await started();
  await kill(first.owner);
  await until(async () => (await value(second.owner, 'getProcessInfo', 'plugin')).sessions === 1);
  expect(alive(first.daemon)).toBe(true);
  expect(await value(second.owner, 'recorded')).toEqual([
    { type: 'stateChange', pluginName: 'plugin', to: 'starting', at: expect.any(String) },
    { type: 'stateChange', pluginName: 'plugin', from: 'starting', to: 'running', pid: first.daemon.pid, at: expect.any(String) },
  ]);
  await kill(second.owner);
  await until(() => !alive(first.daemon), 2_500, 'the daemon is gone');
  await hostGone();
  expectNothingLeft(world, 'plugin', [first.daemon]);
});

test('shared: two managers of one process are two sessions', async () => {
  const [first, second] = [world.manager(), world.manager()];
  await Promise.all([first.startProcess(shared()), second.startProcess(shared())]);
  expect(second.getPid('plugin')).toBe(first.getPid('plugin'));
  await until(() => first.getProcessInfo('plugin').sessions === 2);
  await first.stopAllProcesses();
  expect(second.isRunning('plugin')).toBe(true);
});

test('shared: the state is starting before startProcess returns, and the getters show the daemon when it resolves', async () => {
  const [first, second] = [world.manager(), world.manager()];
  const events = record(second);
  const info = [];
  second.on('stateChange', ({ to }) => to === 'running' && info.push(second.getProcessInfo('plugin')));
  const start = first.startProcess(shared());
  expect([first.getState('plugin'), first.getPid('plugin')]).toEqual(['starting', undefined]);
  await start;
  // To attach takes a millisecond, so the state may be running already.
  const attached = second.startProcess(shared());
  expect(['starting', 'running']).toContain(second.getState('plugin'));
  await attached;
  const { pid } = second.getProcessInfo('plugin');
  expect(pid).toBe(first.getPid('plugin'));
  expect(info).toEqual([expect.objectContaining({ state: 'running', pid, sessions: 2 })]);
  expect(events.all.map(({ type, from, to }) => ({ type, from, to }))).toEqual([
    { type: 'stateChange', from: undefined, to: 'starting' },
    { type: 'stateChange', from: 'starting', to: 'running' },
  ]);
});

test('shared: letting go is running, stopping, stopped without exit, and then nothing is heard', async () => {
  const [first, second] = [world.manager(), world.manager()];
  await first.startProcess(shared());
  await second.startProcess(shared());
  const events = record(first);
  const before = first.getProcessInfo('plugin');
  await first.stopProcess('plugin');
  expect(events.all.map(({ type, from, to, reason }) => ({ type, from, to, reason }))).toEqual([
    { type: 'stateChange', from: 'running', to: 'stopping', reason: undefined },
    { type: 'stateChange', from: 'stopping', to: 'stopped', reason: 'stopped' },
  ]);
  const after = first.getProcessInfo('plugin');
  expect(after).toMatchObject({ state: 'stopped', config: before.config });
  for (const key of ['pid', 'sessions', 'uptime']) expect(after).not.toHaveProperty(key);
  await second.restartProcess('plugin');
  expect(events.all).toHaveLength(2);
  expect(first.getProcessInfo('plugin')).toEqual(after);
});

test('shared: another configuration is ERR_OWNED_ELSEWHERE with the fields that differ, and never their values', async () => {
  const [first, second] = [world.manager(), world.manager()];
  await first.startProcess(shared());
  const other = shared('plugin', ['serves.py', 'hidden-argument'], { envVars: { API_URL: 'hidden-value' }, startupTimeout: 9_000 });
  const events = record(second);
  const error = await failure(second.startProcess(other));
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pluginName: 'plugin', pid: host().pid });
  expect(error.message).toMatch(/args\[4\].*envVars\.API_URL|envVars\.API_URL.*args\[4\]/);
  expect(error.message).not.toMatch(/hidden|startupTimeout/);
  expect(second.getState('plugin')).toBeUndefined();
  expect(events.all).toEqual([]);
  await second.startProcess(shared('plugin', ['serves.py'], { startupTimeout: 9_000, group: 'own' }));
  expect(second.getPid('plugin')).toBe(first.getPid('plugin'));
});

test('shared and exclusive never mix: ERR_OWNED_ELSEWHERE with the pid of the owner', async () => {
  const [first, second] = [world.manager(), world.manager()];
  await first.startProcess(shared('one'));
  expect(await failure(second.startProcess(shared('one', ['serves.py'], { shared: false })))).toMatchObject({
    code: 'ERR_OWNED_ELSEWHERE',
    pid: host().pid,
  });
  await first.startProcess(shared('two', ['serves.py'], { shared: false }));
  expect(await failure(second.startProcess(shared('two')))).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: process.pid });
  expect(await failure(first.startProcess(shared('two')))).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: process.pid });
  const exclusive = shared('one', ['serves.py'], { shared: false });
  const own = { code: 'ERR_OWNED_ELSEWHERE', pid: host().pid, message: expect.stringContaining('it is shared by 1 session') };
  expect(await failure(first.startProcess(exclusive))).toMatchObject(own);
  expect((await failure(first.startGroup([exclusive]))).errors).toMatchObject([own]);
  expect(second.getState('one')).toBeUndefined();
  expect(second.getState('two')).toBeUndefined();
  expect(first.getState('one')).toBe('running');
  expect(first.getState('two')).toBe('running');
});

test('shared: 50 managers that start one plugin at once make one daemon and one host', async () => {
  const managers = Array.from({ length: 50 }, () => world.manager());
  await Promise.all(managers.map((manager) => manager.startProcess(shared())));
  const pids = new Set(managers.map((manager) => manager.getPid('plugin')));
  expect(pids.size).toBe(1);
  const daemon = identify([...pids][0]);
  await until(() => managers.every((manager) => manager.getProcessInfo('plugin').sessions === 50));
  await Promise.all(managers.map((manager) => manager.stopAllProcesses()));
  expectNothingLeft(world, 'plugin', [daemon]);
  await hostGone();
});

test('shared.linger: the daemon outlives its last session, and the next one finds it warm', async () => {
  const lingering = shared('plugin', ['serves.py'], { shared: { linger: 3_000 } });
  const first = await started(lingering);
  await first.owner.asks('stopProcess', 'plugin');
  expect(alive(first.daemon)).toBe(true);
  const second = await started(lingering);
  expect(second.daemon).toEqual(first.daemon);
  const begun = performance.now();
  await kill(second.owner);
  await until(() => !alive(first.daemon), 10_000);
  expect(performance.now() - begun).toBeGreaterThan(2_800);
  await hostGone();
});

test('shared.linger does not count once the files of the host are removed', async () => {
  const { daemon, owner } = await started(shared('plugin', ['serves.py'], { shared: { linger: 30_000 } }));
  // By another name the end of its listener is seen.
  const [file, link] = [`${folder()}/host.sock`, world.path('link')];
  fs.linkSync(file, link);
  fs.unlinkSync(file);
  await until(async () => !(await connects(link)), 3_000, 'the host takes nobody any more');
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  await until(() => !alive(daemon), 3_000, 'the daemon is gone');
  expect(await value(owner, 'getState', 'plugin')).toBe('stopped');
});

test('shared: daemons go on when envsDir is renamed, and sessions and ally-daemons find them under the new path', async () => {
  const config = shared('plugin', ['serves.py'], { socketPath: world.path('plugin.sock') });
  const envsDir = world.path('renamed');
  const [before, after] = [world.manager(), world.manager({ envsDir })];
  await before.startProcess(config);
  const pid = before.getPid('plugin');
  fs.renameSync(world.envsDir, envsDir);
  await after.startProcess(config);
  expect([before, after].map((manager) => manager.getPid('plugin'))).toEqual([pid, pid]);
  const { code, stdout } = await cli(['ps', '--json'], { envsDir });
  expect([code, JSON.parse(stdout)]).toMatchObject([0, { daemons: [{ name: 'plugin', state: 'running', pid }] }]);
  for (const manager of [before, after]) await manager.stopProcess('plugin');
});

const onConnect = (changes) => shared('plugin', ['serves-descriptor-3.py', 'one'], { socket: 'manager', start: 'onConnect', ...changes });
const told = (events) => events.of('stateChange', 'plugin').map(({ from, to, reason }) => [from, to, reason]);

test("shared, start 'onConnect': each session hears 'stopped' with the reason 'armed'", async () => {
  const managers = [world.manager(), world.manager()];
  const events = managers.map(record);
  for (const manager of managers) await manager.startProcess(onConnect());
  await until(() => events.every(({ all }) => all.length > 0));
  for (const each of events) expect(told(each)).toEqual([[undefined, 'stopped', 'armed']]);
});

test("shared, start 'onConnect' after an error: 'stopped' with the reason 'armed'", async () => {
  const manager = world.manager();
  const events = record(manager);
  await failure(manager.startProcess(shared('plugin', ['exits.py', '--code', '3'])));
  expect(manager.getState('plugin')).toBe('error');
  await manager.startProcess(onConnect());
  expect(manager.getProcessInfo('plugin').armed).toBe(true);
  await until(() => events.states('plugin').at(-1) === 'stopped');
  expect(told(events).at(-1)).toEqual(['error', 'stopped', 'armed']);
});

test('sessions counts those that have the plugin until a stop with everywhere is over', async () => {
  const [first, second, stranger] = [world.manager(), world.manager(), world.manager()];
  const config = shared('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 600 });
  for (const manager of [first, second]) await manager.startProcess(config);
  const counts = () => [first, second].map((manager) => manager.getProcessInfo('plugin').sessions);
  await until(() => counts().join() === '2,2');
  const stop = stranger.stopProcess('plugin', { everywhere: true });
  await until(() => second.getState('plugin') === 'stopping');
  expect(counts()).toEqual([2, 2]);
  await stop;
  await until(() => second.getState('plugin') === 'stopped');
  expect(counts()).toEqual([undefined, undefined]);
});
