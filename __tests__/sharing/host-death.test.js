'use strict';

const fs = require('node:fs');
const { ask } = require('../helpers/ask');
const { record } = require('../helpers/events');
const { testWith } = require('../helpers/needs');
const { alive, identify, signal, withEnvironment } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, host, suspendHost, frozenHost, hostGone, started, kill, value } = useSessions(world);

test('host killed: every session hears exit and restart, and one daemon is spawned again', async () => {
  const managers = [world.manager(), world.manager(), world.manager()];
  const config = shared('plugin', ['serves.py'], { restart: { maxAttempts: 3, delay: 60_000 } });
  for (const manager of managers) await manager.startProcess(config);
  const daemon = identify(managers[0].getPid('plugin'));
  const events = managers.map(record);
  const killed = host();
  signal(killed, 'SIGKILL');
  await until(() => !alive(daemon), 3_000, 'the old tree is gone');
  // Without the delay of 60 s.
  await until(() => managers.every((manager) => runsAnew(manager, 'plugin', daemon.pid)), 5_000);
  const pid = managers[0].getPid('plugin');
  for (const [index, manager] of managers.entries()) {
    expect(manager.getPid('plugin')).toBe(pid);
    expect(manager.getProcessInfo('plugin')).toMatchObject({ totalRestarts: 1, lastExit: { pid: daemon.pid, reason: 'crashed' } });
    // A getter knows before a listener.
    await until(() => events[index].states('plugin').at(-1) === 'running');
    expect(events[index].all.map(({ at: _, ...event }) => event)).toEqual([
      { type: 'exit', pluginName: 'plugin', pid: daemon.pid, reason: 'crashed' },
      { type: 'restart', pluginName: 'plugin', attempt: 1, delay: 0, reason: 'crashed' },
      { type: 'stateChange', pluginName: 'plugin', from: 'running', to: 'starting', reason: 'crashed' },
      { type: 'stateChange', pluginName: 'plugin', from: 'starting', to: 'running', pid },
    ]);
  }
  expect(host().pid).not.toBe(killed.pid);
});

test('host killed with restart.maxAttempts 0: the state is error', async () => {
  const manager = world.manager();
  await manager.startProcess(shared('plugin', ['serves.py'], { restart: { maxAttempts: 0 } }));
  signal(host(), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'error', 5_000);
  await manager.startProcess(shared('plugin', ['serves.py'], { restart: { maxAttempts: 0 } }));
  expect(manager.isRunning('plugin')).toBe(true);
});

test('host killed: a start that is under way is made again by the next host', async () => {
  const manager = world.manager();
  await manager.startProcess(shared('other'));
  const marker = world.path('may-listen');
  const start = watch(manager.startProcess(shared('plugin', ['waits-for-a-file.py', marker, world.path('began')])));
  await until(() => fs.existsSync(world.path('began')));
  const killed = host();
  signal(killed, 'SIGKILL');
  fs.writeFileSync(marker, '');
  await start.promise;
  expect(manager.isRunning('plugin')).toBe(true);
  await until(() => manager.isRunning('other'), 5_000);
  expect(host().pid).not.toBe(killed.pid);
});

test('host killed during a stop: stopProcess resolves at the end of the tree', async () => {
  const manager = world.manager();
  await manager.startProcess(shared('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 800 }));
  const daemon = identify(manager.getPid('plugin'));
  const stop = watch(manager.stopProcess('plugin'));
  await until(() => manager.getState('plugin') === 'stopping');
  signal(host(), 'SIGKILL');
  await stop.promise;
  expect(alive(daemon)).toBe(false);
  expect(manager.getState('plugin')).toBe('stopped');
});

testWith('ptrace')(
  'host killed during a stop: it resolves although another session starts the daemon again',
  async () => {
    const [manager, other] = [world.manager(), world.manager()];
    for (let round = 0; round < 4; round++) {
      const config = shared('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 300 });
      await manager.startProcess(config);
      if (round === 0) await other.startProcess(config);
      const daemon = identify(manager.getPid('plugin'));
      const frozen = await frozenHost();
      const stop = watch(manager.stopProcess('plugin'));
      signal(frozen.host, 'SIGKILL');
      await frozen.thaw();
      await stop.promise;
      expect(alive(daemon)).toBe(false);
      expect(manager.getState('plugin')).toBe('stopped');
      await until(() => runsAnew(other, 'plugin', daemon.pid), 5_000);
    }
  },
  30_000,
);

testWith('ptrace').each(['a session', 'a stranger'])(
  'host killed during stopProcess with everywhere, of %s: nobody starts the daemon again',
  async (who) => {
    const sessions = [world.manager(), world.manager()];
    // A longer time than SIGKILL needs.
    const config = shared('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 3_000 });
    for (const session of sessions) await session.startProcess(config);
    const daemon = identify(sessions[0].getPid('plugin'));
    const caller = who === 'a session' ? sessions[0] : world.manager();
    const events = sessions.map(record);
    const frozen = await frozenHost();
    const stop = watch(caller.stopProcess('plugin', { everywhere: true }));
    signal(frozen.host, 'SIGKILL');
    await frozen.thaw();
    await stop.promise;
    expect(alive(daemon)).toBe(false);
    await until(() => sessions.every((session) => session.getState('plugin') === 'stopped'));
    for (const { of, states } of events) {
      expect(of('exit')).toHaveLength(1);
      expect(states('plugin').at(-1)).toBe('stopped');
    }
    await hostGone();
    expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
    expect(withEnvironment(world.dir)).toEqual([]);
    await sessions[1].startProcess(config);
    expect(sessions[1].isRunning('plugin')).toBe(true);
    await sessions[1].stopProcess('plugin');
  },
  30_000,
);

test('host killed while nobody has a daemon: nothing is started', async () => {
  const lingering = shared('plugin', ['serves.py'], { shared: { linger: 30_000 } });
  const { owner, daemon } = await started(lingering);
  await owner.asks('stopProcess', 'plugin');
  signal(host(), 'SIGKILL');
  await until(() => !alive(daemon), 3_000);
  await hostGone();
  expect(await value(owner, 'getState', 'plugin')).toBe('stopped');
  await kill(owner);
});

test('SIGTERM to the host ends every daemon for all sessions', async () => {
  const [first, second] = [world.manager(), world.manager()];
  await first.startProcess(shared());
  await second.startProcess(shared());
  const daemon = identify(first.getPid('plugin'));
  const events = record(second);
  signal(host(), 'SIGTERM');
  await hostGone(3_000);
  expectNothingLeft(world, 'plugin', [daemon]);
  await until(() => events.states('plugin').length === 2 && events.of('exit').length === 1);
  expect(second.getState('plugin')).toBe('stopped');
  expect(events.states('plugin')).toEqual(['stopping', 'stopped']);
  expect(events.of('exit').map(({ reason }) => reason)).toEqual(['stopped']);
  await second.startProcess(shared());
  expect(second.isRunning('plugin')).toBe(true);
});

test('upgrade rejects with ERR_UPGRADE if the host is killed', async () => {
  const manager = world.manager();
  await manager.startProcess(shared());
  const upgrade = manager.upgradeProcess('plugin', { args: shared('plugin', ['never-listens.py']).args });
  const rejected = failure(upgrade);
  await until(() => withEnvironment(world.dir).length >= 2, 5_000);
  signal(host(), 'SIGKILL');
  expect(await rejected).toMatchObject({ code: 'ERR_UPGRADE', message: expect.stringContaining('the host was killed') });
  await until(() => manager.isRunning('plugin'), 5_000);
});

test('host killed while a start that was stopped ends: nothing is started again, and the next start works', async () => {
  const manager = world.manager();
  const tree = ['leads-a-tree.py', world.path('family'), '--never-bind', 'stubborn'];
  const start = failure(manager.startProcess(shared('plugin', tree, { shutdownGracePeriod: 800 })));
  const daemons = Object.values(await world.tree(world.path('family')));
  // Takes the grace period.
  const stop = manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopping');
  signal(host(), 'SIGKILL');
  await stop;
  expect(await start).toMatchObject({ code: 'ERR_STOPPED' });
  expect(daemons.filter(alive)).toEqual([]);
  expect(manager.getState('plugin')).toBe('stopped');
  await hostGone();
  expectNothingLeft(world, 'plugin', daemons);
  await manager.startProcess(shared());
  expect(manager.isRunning('plugin')).toBe(true);
});

test('stopProcess after the death of the host was heard resolves at the end of the old tree', async () => {
  const [manager, other] = [world.manager(), world.manager()];
  const config = shared('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 1_000 });
  for (const session of [manager, other]) await session.startProcess(config);
  const daemon = identify(manager.getPid('plugin'));
  const stopped = new Promise((resolve) => {
    manager.once('exit', () => resolve(manager.stopProcess('plugin').then(() => alive(daemon))));
  });
  signal(host(), 'SIGKILL');
  expect(await stopped).toBe(false);
  expect(manager.getState('plugin')).toBe('stopped');
  await until(() => other.isRunning('plugin'), 5_000);
});

testWith('ptrace')('host killed: a start or a wait that was aborted before it was answered is not made again', async () => {
  const manager = world.manager();
  // What does not become ready again.
  const marker = world.path('listens-once');
  fs.writeFileSync(marker, '');
  await manager.startProcess(shared('other', ['waits-for-a-file.py', marker, world.path('other-began')]));
  fs.unlinkSync(marker);
  const frozen = await frozenHost();
  const controller = new AbortController();
  const began = world.path('began');
  const late = shared('plugin', ['waits-for-a-file.py', world.path('may-listen'), began]);
  const aborted = [manager.startProcess(late, { signal: controller.signal }), manager.whenRunning('other', { signal: controller.signal })];
  const failures = aborted.map(failure);
  // The calls and their aborts are in the stream of a host that does not read.
  await new Promise(setImmediate);
  controller.abort(new Error('the window was closed'));
  await new Promise(setImmediate);
  signal(frozen.host, 'SIGKILL');
  await frozen.thaw();
  for (const failed of failures) expect((await failed).message).toBe('the window was closed');
  expect(manager.getState('plugin')).toBe('stopped');
  fs.writeFileSync(marker, '');
  await until(() => manager.isRunning('other'), 5_000);
  expect(fs.existsSync(began)).toBe(false);
});

test('host killed while a plugin is only armed: it is armed again, without an event', async () => {
  const managers = [world.manager(), world.manager()];
  const config = shared('plugin', ['serves-descriptor-3.py', 'one'], { socket: 'manager', start: 'onConnect' });
  for (const manager of managers) await manager.startProcess(config);
  await until(() => managers.every((manager) => manager.getProcessInfo('plugin').sessions === 2));
  const events = managers.map(record);
  const killed = host();
  signal(killed, 'SIGKILL');
  await until(() => host() !== undefined && host().pid !== killed.pid, 5_000);
  // The getters of those that were there show no difference.
  const third = world.manager();
  await third.startProcess(config);
  await until(() => third.getProcessInfo('plugin').sessions === 3, 5_000);
  expect(managers.map((manager) => manager.getProcessInfo('plugin'))).toMatchObject([
    { state: 'stopped', armed: true, totalRestarts: 0 },
    { state: 'stopped', armed: true, totalRestarts: 0 },
  ]);
  expect(await ask(world.socket('plugin'))).toMatch(/^one \d+\n$/);
  await until(() => events.every(({ states }) => states('plugin').at(-1) === 'running'));
  for (const { of } of events) {
    expect(of('stateChange').map(({ to, reason }) => [to, reason])).toEqual([
      ['starting', 'connection'],
      ['running', undefined],
    ]);
    expect(of('exit')).toEqual([]);
  }
});

test('host killed during a stop with everywhere that the sessions have heard of: exit, stopped, and no restart', async () => {
  const sessions = [world.manager(), world.manager()];
  const config = shared('plugin', ['ignores-signals.py'], { shutdownGracePeriod: 1_000 });
  for (const session of sessions) await session.startProcess(config);
  const daemon = identify(sessions[0].getPid('plugin'));
  const events = sessions.map(record);
  const stop = watch(world.manager().stopProcess('plugin', { everywhere: true }));
  await until(() => sessions.every((session) => session.getState('plugin') === 'stopping'));
  suspendHost();
  const unread = sessions.flatMap((session) => [session.whenRunning('plugin'), session.restartProcess('plugin')].map(failure));
  signal(host(), 'SIGKILL');
  await stop.promise;
  for (const call of unread) expect(await call).toMatchObject({ code: 'ERR_STOPPED' });
  expect(alive(daemon)).toBe(false);
  await until(() => events.every(({ states }) => states('plugin').at(-1) === 'stopped'));
  for (const [index, { all }] of events.entries()) {
    expect(all.map(({ type, to, reason }) => [type, to, reason])).toEqual([
      ['stateChange', 'stopping', undefined],
      ['exit', undefined, 'stopped'],
      ['stateChange', 'stopped', undefined],
    ]);
    expect(sessions[index].getProcessInfo('plugin')).toMatchObject({
      state: 'stopped',
      totalRestarts: 0,
      lastExit: { pid: daemon.pid, reason: 'stopped' },
    });
  }
  await hostGone();
  await sessions[1].startProcess(config);
  expect(sessions[1].isRunning('plugin')).toBe(true);
});
