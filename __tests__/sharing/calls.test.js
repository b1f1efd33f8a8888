'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { alive, identify, signal } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, session, host, hostGone, started, value } = useSessions(world);

const two = async (config = shared()) => {
  const managers = [world.manager(), world.manager()];
  for (const manager of managers) await manager.startProcess(config);
  const events = managers.map(record);
  return { first: managers[0], second: managers[1], events, daemon: identify(managers[0].getPid(config.pluginName)) };
};
const plain = (events) => events.all.map(({ at: _, ...event }) => event);

test('a crash is restarted once, and all sessions hear the same events in the same order', async () => {
  const { first, second, events, daemon } = await two(shared('plugin', ['serves.py'], { restart: { maxAttempts: 3, delay: 10 } }));
  signal(daemon, 'SIGKILL');
  await until(() => [first, second].every((manager) => runsAnew(manager, 'plugin', daemon.pid)));
  await until(() => events.every(({ states }) => states('plugin').at(-1) === 'running'));
  expect(plain(events[0])).toEqual(plain(events[1]));
  expect(plain(events[0]).map(({ type, to }) => to ?? type)).toEqual(['exit', 'restart', 'starting', 'running']);
  for (const manager of [first, second])
    expect(manager.getProcessInfo('plugin')).toMatchObject({ totalRestarts: 1, lastExit: { pid: daemon.pid, signal: 'SIGKILL' } });
});

test('everywhere: stops the daemon for all, and pending waits reject with ERR_STOPPED', async () => {
  const { first, second, events, daemon } = await two();
  await first.stopProcess('plugin', { everywhere: true });
  expectNothingLeft(world, 'plugin', [daemon]);
  await until(() => second.getState('plugin') === 'stopped');
  for (const each of events) {
    await until(() => each.states('plugin').at(-1) === 'stopped');
    expect(plain(each).map(({ type, to }) => to ?? type)).toEqual(['stopping', 'exit', 'stopped']);
    expect(each.of('exit')[0]).toMatchObject({ pid: daemon.pid, reason: 'stopped' });
  }
  await hostGone();
});

test('everywhere: works for a session that does not have the plugin, and makes no host', async () => {
  const stranger = world.manager();
  await stranger.stopProcess('plugin', { everywhere: true });
  expect(host()).toBeUndefined();
  const { daemon } = await started(shared('plugin', ['serves.py'], { shared: { linger: 60_000 } }));
  const start = watch(stranger.startProcess(shared('other', ['never-listens.py'])));
  await until(() => stranger.getPid('other') !== undefined);
  await world.manager().stopProcess('other', { everywhere: true });
  await until(() => start.settled);
  expect(start.error).toMatchObject({ code: 'ERR_STOPPED' });
  await stranger.stopProcess('plugin', { everywhere: true });
  expect(alive(daemon)).toBe(false);
});

test('everywhere: after stopAllProcesses it rejects, because nothing would be stopped', async () => {
  const [closed, other] = [world.manager(), world.manager()];
  for (const manager of [closed, other]) await manager.startProcess(shared());
  await closed.stopAllProcesses();
  expect(await failure(closed.stopProcess('plugin', { everywhere: true }))).toMatchObject({
    code: 'ERR_SHUTTING_DOWN',
    pluginName: 'plugin',
  });
  await closed.stopProcess('plugin');
  expect(other.isRunning('plugin')).toBe(true);
});

test('stopAllProcesses: a shared plugin does not wait for exclusive ones that do not depend on it', async () => {
  const manager = world.manager();
  await manager.startProcess(shared());
  await manager.startProcess(shared('slow', ['ignores-signals.py'], { shared: false, shutdownGracePeriod: 2_000 }));
  const stopping = manager.stopAllProcesses();
  await until(() => manager.getState('plugin') === 'stopped');
  expect(manager.getState('slow')).toBe('stopping');
  await stopping;
  expect(manager.getState('slow')).toBe('stopped');
});

test('a refused start as an exclusive plugin leaves the state that it had as a shared one', async () => {
  const manager = world.manager();
  await manager.startProcess(shared());
  await manager.stopProcess('plugin');
  const refused = shared('plugin', ['serves.py'], { shared: false, dependsOn: ['nobody'] });
  expect(await failure(manager.startProcess(refused))).toMatchObject({ code: 'ERR_DEPENDENCY' });
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'stopped', config: { shared: true } });
});

test.each([
  ['shared', false],
  ['exclusive', true],
])('a start as %s that another owner refuses late leaves the state that it had as the other kind', async (_, wasShared) => {
  const manager = world.manager();
  await manager.startProcess(shared('plugin', ['serves.py'], { shared: wasShared }));
  await manager.stopProcess('plugin');
  await hostGone();
  const before = manager.getProcessInfo('plugin');
  const events = record(manager);
  const owner = session();
  expect(await owner.asks('startProcess', shared('plugin', ['serves.py'], { shared: false }))).toEqual({});
  expect(await failure(manager.startProcess(shared('plugin', ['serves.py'], { shared: !wasShared })))).toMatchObject({
    code: 'ERR_OWNED_ELSEWHERE',
    pid: owner.pid,
  });
  expect(manager.getState('plugin')).toBe('stopped');
  expect(manager.getProcessInfo('plugin')).toEqual(before);
  expect(manager.getMetrics()).toHaveLength(1);
  expect(events.all).toEqual([]);
  await owner.asks('stopProcess', 'plugin');
  await manager.startProcess(shared('plugin', ['serves.py'], { shared: !wasShared }));
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running', config: { shared: !wasShared } });
  await manager.stopProcess('plugin');
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'stopped', config: { shared: !wasShared } });
});

test('restartProcess acts for all', async () => {
  const { first, second, events, daemon } = await two();
  await first.restartProcess('plugin');
  const pid = first.getPid('plugin');
  expect(pid).not.toBe(daemon.pid);
  await until(() => second.isRunning('plugin') && second.getPid('plugin') === pid);
  await until(() => events[1].states('plugin').at(-1) === 'running');
  expect(plain(events[1])).toEqual(plain(events[0]));
});

test('upgradeProcess acts for all, and the config of each session has the changed fields', async () => {
  const { first, second, daemon } = await two(shared('plugin', ['serves.py'], { group: 'own' }));
  await first.upgradeProcess('plugin', { envVars: { TEST_WORLD: world.dir, NEXT: '1' } });
  const pid = first.getPid('plugin');
  expect(pid).not.toBe(daemon.pid);
  await until(() => second.getPid('plugin') === pid);
  await until(() => second.getProcessInfo('plugin').config.envVars.NEXT === '1');
  expect(second.getProcessInfo('plugin').config.group).toBe('own');
  const third = world.manager();
  const error = await failure(third.startProcess(shared()));
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE' });
  expect(error.message).toMatch(/envVars\.NEXT/);
  expect(error.message).toMatch(/upgrade/);
  await third.startProcess(shared('plugin', ['serves.py'], { envVars: { NEXT: '1' } }));
  const rejected = await failure(second.upgradeProcess('plugin', { args: shared('plugin', ['exits.py', '--code', '3']).args }));
  expect(rejected).toMatchObject({ code: 'ERR_UPGRADE', cause: { code: 'ERR_STARTUP_EXIT', exitCode: 3 } });
  expect(first.getPid('plugin')).toBe(pid);
  expect(second.getProcessInfo('plugin').config.envVars.NEXT).toBe('1');
});

test('upgradeProcess: the daemon has the new configuration for all, also if the caller lets go before it settles', async () => {
  const { first, second, daemon } = await two();
  const marker = world.path('may-listen');
  const { args } = shared('plugin', ['waits-for-a-file.py', marker, world.path('began')]);
  const upgrade = failure(first.upgradeProcess('plugin', { args }));
  await until(() => fs.existsSync(world.path('began')));
  await first.stopProcess('plugin');
  expect((await upgrade).code).toBe('ERR_STOPPED');
  fs.writeFileSync(marker, '');
  await until(() => ![undefined, daemon.pid].includes(second.getPid('plugin')));
  await until(() => second.getProcessInfo('plugin').config.args.length === args.length);
  expect(second.getProcessInfo('plugin').config.args).toEqual(args);
  await world.manager().startProcess(shared('plugin', ['waits-for-a-file.py', marker, world.path('began')]));
});

test('upgradeProcess and startProcess of a plugin in error at once: its configuration is that of the later call', async () => {
  const manager = world.manager();
  await manager.startProcess(shared('plugin', ['serves.py'], { restart: { maxAttempts: 0 } }));
  signal(identify(manager.getPid('plugin')), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'error');
  const next = { envVars: { TEST_WORLD: world.dir, NEXT: '1' } };
  const calls = [
    manager.upgradeProcess('plugin', next),
    manager.startProcess(shared('plugin', ['serves.py'], { restart: { maxAttempts: 0 }, ...next })),
  ];
  await Promise.allSettled(calls);
  await until(() => manager.isRunning('plugin'));
  expect(manager.getProcessInfo('plugin').config).toMatchObject(next);
});

test('upgradeProcess: a configuration of more than a megabyte reaches the other sessions', async () => {
  const [first, second] = [world.manager(), world.manager()];
  await first.startProcess(shared());
  await second.startProcess(shared());
  const long = Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`LONG_${index}`, 'x'.repeat(120_000)]));
  const envVars = { TEST_WORLD: world.dir, ...long };
  await first.upgradeProcess('plugin', { envVars });
  await until(() => second.getProcessInfo('plugin').config.envVars.LONG_11 !== undefined);
  expect(second.getProcessInfo('plugin').config.envVars).toEqual(envVars);
});

test('upgradeProcess: `shared` may come from the defaults, and any name of a variable reaches the other sessions', async () => {
  const { shared: _, ...config } = shared();
  const [first, second] = [1, 2].map(() => world.manager({ defaults: { shared: true } }));
  for (const manager of [first, second]) await manager.startProcess(config);
  const envVars = { ...config.envVars, undefined: true, LEFT_OUT: undefined };
  await first.upgradeProcess('plugin', { envVars });
  await until(() => second.getPid('plugin') === first.getPid('plugin'));
  await until(() => second.getProcessInfo('plugin').config.envVars.undefined === true);
  expect(second.getProcessInfo('plugin').config).toStrictEqual(first.getProcessInfo('plugin').config);
  expect(second.getProcessInfo('plugin').config.envVars).toStrictEqual(envVars);
});

test('a start that fails rejects for all that wait, and the state is error', async () => {
  const managers = [world.manager(), world.manager()];
  const starts = managers.map((manager) =>
    failure(manager.startProcess(shared('plugin', ['exits.py', '--after', '300', '--code', '3', 'SomeError: no']))),
  );
  for (const [index, error] of (await Promise.all(starts)).entries()) {
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3, pluginName: 'plugin', stderr: 'SomeError: no' });
    expect(error.message).toContain("Failed to start background process 'plugin': the process exited with code 3");
    await until(() => managers[index].getState('plugin') === 'error');
    expect(managers[index].getProcessInfo('plugin').lastError).toContain('exited with code 3');
  }
  for (const manager of managers) expect(manager.forgetProcess('plugin')).toBe(true);
  await hostGone();
});

test('a start that fails is followed by one that works: getters and events are those of the daemon, and the host leaves after its stop', async () => {
  const manager = world.manager();
  expect(await failure(manager.startProcess(shared('plugin', ['exits.py', '--code', '3'])))).toMatchObject({ code: 'ERR_STARTUP_EXIT' });
  await until(() => manager.getState('plugin') === 'error');
  const events = record(manager);
  await manager.startProcess(shared());
  expect(manager.getState('plugin')).toBe('running');
  expect(alive(identify(manager.getPid('plugin')))).toBe(true);
  await until(() => events.states('plugin').at(-1) === 'running');
  expect(events.states('plugin')).toEqual(['starting', 'running']);
  expect(await failure(manager.startProcess(shared()))).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopped');
  await hostGone();
});

test('stopProcess of a plugin in error: the state is stopped; after stopAllProcesses restartProcess rejects', async () => {
  const manager = world.manager();
  const fails = shared('plugin', ['exits.py', '--code', '3']);
  await failure(manager.startProcess(fails));
  const events = record(manager);
  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopped');
  expect(events.all).toMatchObject([{ type: 'stateChange', from: 'error', to: 'stopped' }]);
  await manager.stopAllProcesses();
  expect(await failure(manager.restartProcess('plugin'))).toMatchObject({ code: 'ERR_SHUTTING_DOWN' });
  expect(manager.getState('plugin')).toBe('stopped');
});

test('a start that fails twice leaves the state error, and nothing in the host once the plugin is forgotten', async () => {
  const manager = world.manager();
  const config = shared('plugin', ['exits.py', '--code', '3']);
  for (const _ of [1, 2]) {
    expect(await failure(manager.startProcess(config))).toMatchObject({ code: 'ERR_STARTUP_EXIT' });
    await until(() => manager.getState('plugin') === 'error');
  }
  expect(manager.getProcessInfo('plugin').lastError).toContain('exited with code 3');
  expect(manager.forgetProcess('plugin')).toBe(true);
  await hostGone();
});

test('forgetProcess of a plugin in error: a start that follows at once is made', async () => {
  const manager = world.manager();
  for (const _ of Array(20)) {
    expect(await failure(manager.startProcess(shared('plugin', ['exits.py', '--code', '3'])))).toMatchObject({ code: 'ERR_STARTUP_EXIT' });
    await until(() => manager.getState('plugin') === 'error');
    expect(manager.forgetProcess('plugin')).toBe(true);
    expect(manager.getProcessInfo('plugin')).toBeUndefined();
    expect(manager.forgetProcess('plugin')).toBe(false);
  }
  const start = manager.startProcess(shared());
  expect(manager.getState('plugin')).toBe('starting');
  await start;
  expect(manager.getState('plugin')).toBe('running');
  await manager.stopProcess('plugin');
  await hostGone();
});

test("an upgrade by another session leaves what is a session's own: group, startupTimeout, linger", async () => {
  const managers = [world.manager(), world.manager()];
  await managers[0].startProcess(shared('plugin', ['serves.py'], { group: 'first' }));
  await managers[1].startProcess(shared('plugin', ['serves.py'], { group: 'second', startupTimeout: 7_000 }));
  await managers[0].upgradeProcess('plugin', { group: 'other', startupTimeout: 9_000, envVars: { TEST_WORLD: world.dir, NEXT: '1' } });
  await until(() => managers[1].getProcessInfo('plugin').config.envVars.NEXT === '1');
  expect(managers[1].getProcessInfo('plugin').config).toMatchObject({ group: 'second', startupTimeout: 7_000, shared: true });
  await managers[1].stopGroup('second');
  expect(managers[1].getState('plugin')).toBe('stopped');
  expect(managers[0].isRunning('plugin')).toBe(true);
});

test('startupTimeout: a session whose own time is over rejects, and the start goes on for the others', async () => {
  const marker = world.path('may-listen');
  const config = (startupTimeout) => shared('plugin', ['waits-for-a-file.py', marker, world.path('began')], { startupTimeout });
  const [patient, hasty] = [world.manager(), world.manager()];
  const start = watch(patient.startProcess(config(20_000)));
  await until(() => patient.getPid('plugin') !== undefined);
  const begun = performance.now();
  expect(await failure(hasty.startProcess(config(500)))).toMatchObject({ code: 'ERR_STARTUP_TIMEOUT', pluginName: 'plugin' });
  expect(performance.now() - begun).toBeLessThan(3_000);
  expect(hasty.getState('plugin')).toBe('error');
  expect(start.settled).toBe(false);
  fs.writeFileSync(marker, '');
  await start.promise;
  expect(patient.getProcessInfo('plugin')).toMatchObject({ state: 'running', sessions: 1 });
});

test('an aborted start rejects with the reason, and the start goes on for the others', async () => {
  const marker = world.path('may-listen');
  const config = shared('plugin', ['waits-for-a-file.py', marker, world.path('began')]);
  const [patient, other] = [world.manager(), world.manager()];
  const start = watch(patient.startProcess(config));
  await until(() => patient.getPid('plugin') !== undefined);
  const controller = new AbortController();
  const aborted = failure(other.startProcess(config, { signal: controller.signal }));
  await until(() => other.getPid('plugin') !== undefined);
  controller.abort(new Error('not any more'));
  expect((await aborted).message).toBe('not any more');
  expect(other.getState('plugin')).toBe('stopped');
  fs.writeFileSync(marker, '');
  await start.promise;
});

test('whenRunning waits for the start of the daemon, and rejects after letting go', async () => {
  const marker = world.path('may-listen');
  const manager = world.manager();
  const start = manager.startProcess(shared('plugin', ['waits-for-a-file.py', marker, world.path('began')]));
  const running = watch(manager.whenRunning('plugin'));
  await until(() => manager.getPid('plugin') !== undefined);
  expect(running.settled).toBe(false);
  fs.writeFileSync(marker, '');
  await Promise.all([start, running.promise]);
  await manager.stopProcess('plugin');
  expect(await failure(manager.whenRunning('plugin'))).toMatchObject({ code: 'ERR_STOPPED' });
});

test('getOutput and logs have what was written before the attaching, and each line once', async () => {
  const first = world.manager();
  await first.startProcess(shared('plugin', ['exits.py', '--listen', '--after', '50000', 'one', 'two']));
  await until(() => first.getOutput('plugin').length === 2);
  const second = world.manager();
  const lines = [];
  second.on('output', ({ line }) => lines.push(line));
  await second.startProcess(shared('plugin', ['exits.py', '--listen', '--after', '50000', 'one', 'two']));
  await until(() => second.getOutput('plugin').length === 2);
  expect(second.getOutput('plugin')).toEqual(['one', 'two']);
  const kept = [];
  for await (const { line, pid, stream } of second.logs('plugin')) kept.push({ line, pid, stream });
  expect(kept).toEqual(['one', 'two'].map((line) => ({ line, pid: second.getPid('plugin'), stream: 'stderr' })));
  expect(lines).toEqual([]);
  await second.stopProcess('plugin');
  expect(second.getOutput('plugin')).toEqual(['one', 'two']);
});

test('health is checked once, and heard by all who listen', async () => {
  const healthcheck = { interval: 60, timeout: 1_000, retries: 3 };
  const { first, second } = await two(shared('plugin', ['serves.py'], { healthcheck }));
  const checks = [[], []];
  first.on('health', (event) => checks[0].push(event));
  second.on('health', (event) => checks[1].push(event));
  await until(() => checks.every((each) => each.length >= 3));
  const [one, other] = checks.map((each) => each.map(({ latency }) => latency));
  const common = one.filter((latency) => other.includes(latency));
  expect(common.length).toBeGreaterThanOrEqual(2);
});

test('getMetrics and metricsText: the counts of the host, with the label shared, until the session lets go', async () => {
  const { first, second, daemon } = await two();
  for (const manager of [first, second]) {
    await until(() => manager.getMetrics('plugin').resources?.processes === 1);
    expect(manager.getMetrics('plugin')).toMatchObject({ pluginName: 'plugin', state: 'running', starts: 1, restarts: 0 });
    expect(manager.getMetrics('plugin').uptime).toBeGreaterThan(0);
  }
  expect(first.metricsText()).toContain('ally_daemon_starts_total{plugin="plugin",shared="true"} 1');
  await first.stopProcess('plugin');
  expect(first.metricsText()).not.toContain('plugin="plugin"');
  expect(first.getMetrics('plugin')).toMatchObject({ state: 'stopped', starts: 1, uptime: 0 });
  expect(alive(daemon)).toBe(true);
});

test('the logger of each session gets the entries about what it has', async () => {
  const owner = session({ logged: true });
  await owner.asks('startProcess', shared());
  const other = world.manager();
  await other.startProcess(shared());
  signal(identify(other.getPid('plugin')), 'SIGKILL');
  await until(async () => (await value(owner, 'records')).some((entry) => /warn: plugin: exited .*SIGKILL/.test(entry)));
  const records = await value(owner, 'records');
  expect(records.filter((entry) => /SIGKILL/.test(entry))).toHaveLength(1);
});

test("shared with onOwnerDeath 'keep' is ERR_INVALID_CONFIG", async () => {
  const error = await failure(world.manager({ onOwnerDeath: 'keep' }).startProcess(shared()));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(error.message).toMatch(/linger/);
});

test('the environment is the short list, and the variables of envVars', async () => {
  world.setEnvironment({ OF_THE_SESSION: 'yes' });
  const manager = world.manager();
  await manager.startProcess(shared('plugin', ['serves.py'], { envVars: { GIVEN: 'yes' } }));
  const { environment } = require('../helpers/proc');
  const variables = environment(manager.getPid('plugin'));
  expect(variables.get('GIVEN')).toBe('yes');
  expect(variables.get('PATH')).toBe(process.env.PATH);
  expect(variables.has('OF_THE_SESSION')).toBe(false);
});

test('an unref’d program with a shared daemon ends, and one that is not lives on', async () => {
  const { owner, daemon } = await started();
  owner.child.disconnect();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(owner.gone).toBe(false);
  owner.child.kill('SIGKILL');
  await owner.exited;
  await until(() => !alive(daemon));
});
