'use strict';

const fs = require('node:fs');
const { ask } = require('../helpers/ask');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { record } = require('../helpers/events');
const { testWith } = require('../helpers/needs');
const { alive, identify, signal } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');

const world = useWorld();
const { commandedOwner, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

const named = (...args) => script('answers-its-name.py', ...args);

async function started(changes) {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['answers-its-name.py', 'one'], changes));
  return manager;
}

const served = async () => (await ask(world.socket('plugin'))).split(' ')[0];
const others = () => fs.readdirSync(world.folder('plugin')).filter((name) => /sock/.test(name) && name !== 'daemon.sock');

test('upgradeProcess: the new generation serves at socketPath, and the old one is gone', async () => {
  const manager = await started();
  const events = record(manager);
  const old = identify(manager.getPid('plugin'));
  await manager.upgradeProcess('plugin', { args: named('two') });
  expect(alive(old)).toBe(false);
  expect(await served()).toBe('two');
  expect(manager.getPid('plugin')).not.toBe(old.pid);
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
  expect(manager.getProcessInfo('plugin').config.args).toEqual(named('two'));
  expect(events.states('plugin')).toEqual([]);
  expect(events.of('exit')).toEqual([expect.objectContaining({ pid: old.pid, reason: 'upgraded', code: 0 })]);
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running', restartAttempts: 0, totalRestarts: 0 });
  expect(others()).toEqual([]);
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin');
  expect(others()).toEqual([]);
});

test('upgradeProcess: several in a row, a restart after a crash, and restartProcess', async () => {
  const manager = await started({ restart: { delay: 0, jitter: 0 } });
  for (const name of ['two', 'three', 'four']) {
    await manager.upgradeProcess('plugin', { args: named(name) });
    expect(await served()).toBe(name);
  }
  const pid = manager.getPid('plugin');
  signal(identify(pid), 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', pid));
  expect(await served()).toBe('four');
  await manager.upgradeProcess('plugin', { args: named('five') });
  expect(await served()).toBe('five');
  await manager.restartProcess('plugin');
  expect(await served()).toBe('five');
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin');
  expect(others()).toEqual([]);
});

test('ERR_UPGRADE: what a start would have said, and the old generation serves on', async () => {
  const manager = await started();
  const events = record(manager);
  const pid = manager.getPid('plugin');
  const { config } = manager.getProcessInfo('plugin');
  const error = await failure(manager.upgradeProcess('plugin', { args: named('two', 'refuse') }));
  expect(error).toMatchObject({ code: 'ERR_UPGRADE', pluginName: 'plugin', exitCode: 3 });
  expect(error.stderr).toContain('NameError: two will not start');
  expect(error.message).toContain("Failed to upgrade background process 'plugin'");
  expect(error.message).toContain('exited with code 3 before it was ready');
  expect(manager.getPid('plugin')).toBe(pid);
  expect(await served()).toBe('one');
  expect(manager.getProcessInfo('plugin').config).toBe(config);
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
  expect(events.all).toEqual([]);
  expect(others()).toEqual([]);
});

test('ERR_UPGRADE: out of time', async () => {
  const manager = await started();
  const error = await failure(manager.upgradeProcess('plugin', { args: named('two', 'never'), startupTimeout: 300 }));
  expect(error).toMatchObject({ code: 'ERR_UPGRADE' });
  expect(error.message).toContain('Timeout waiting for socket');
  expect(await served()).toBe('one');
});

test('upgradeProcess: ERR_NOT_FOUND, ERR_INVALID_CONFIG and ERR_ALREADY_RUNNING change nothing', async () => {
  const manager = await started();
  expect(await failure(manager.upgradeProcess('other', {}))).toMatchObject({ code: 'ERR_NOT_FOUND', pluginName: 'other' });
  const renamed = await failure(manager.upgradeProcess('plugin', { pluginName: 'other' }));
  expect(renamed).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  expect(renamed.message).toContain('pluginName');
  for (const changes of [{ args: 3 }, 'args', null, []])
    expect(await failure(manager.upgradeProcess('plugin', changes))).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
  const first = manager.upgradeProcess('plugin', { args: named('two') });
  // In the same turn, so that the upgrade can't have ended.
  const second = failure(manager.upgradeProcess('plugin', { args: named('three') }));
  const restart = failure(manager.restartProcess('plugin'));
  expect(await second).toMatchObject({ code: 'ERR_ALREADY_RUNNING', message: expect.stringContaining('already upgrading') });
  expect(await restart).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
  await first;
  expect(await served()).toBe('two');
});

test('stopProcess: during an upgrade stops both, and the upgrade rejects with ERR_STOPPED', async () => {
  const manager = await started();
  const old = identify(manager.getPid('plugin'));
  const upgrade = failure(manager.upgradeProcess('plugin', { args: named('two', 'never') }));
  await until(() => others().length > 0);
  await manager.stopProcess('plugin');
  expect(await upgrade).toMatchObject({ code: 'ERR_STOPPED' });
  expect(alive(old)).toBe(false);
  expectNothingLeft(world, 'plugin');
  expect(others()).toEqual([]);
  expect(manager.getState('plugin')).toBe('stopped');
});

test('upgradeProcess: a crash of the old generation is no restart, and the new one serves', async () => {
  const manager = await started({ restart: { delay: 0 } });
  const events = record(manager);
  const old = identify(manager.getPid('plugin'));
  const go = world.path('go');
  const upgrade = manager.upgradeProcess('plugin', {
    command: '/bin/sh',
    args: ['-c', `until [ -e ${go} ]; do sleep 0.01; done; exec "$0" "$@"`, world.config().command, ...named('two')],
  });
  await until(() => others().length > 0);
  signal(old, 'SIGKILL');
  await until(() => manager.getState('plugin') === 'starting');
  expect(manager.getPid('plugin')).toBeUndefined();
  fs.writeFileSync(go, '');
  await upgrade;
  expect(await served()).toBe('two');
  expect(events.states('plugin')).toEqual(['starting', 'running']);
  expect(events.of('exit')).toEqual([expect.objectContaining({ pid: old.pid, reason: 'crashed' })]);
  expect(events.of('restart')).toEqual([]);
});

test('upgradeProcess: after a crash of the old generation and a failure of the new one, the old configuration restarts', async () => {
  const manager = await started({ restart: { delay: 0 } });
  const events = record(manager);
  const old = identify(manager.getPid('plugin'));
  const upgrade = failure(manager.upgradeProcess('plugin', { args: named('two', 'never'), startupTimeout: 1_000 }));
  await until(() => others().length > 0);
  signal(old, 'SIGKILL');
  expect(await upgrade).toMatchObject({ code: 'ERR_UPGRADE' });
  await until(() => manager.isRunning('plugin'));
  expect(await served()).toBe('one');
  expect(events.of('restart')).toEqual([expect.objectContaining({ attempt: 1, reason: 'crashed' })]);
});

test('upgradeProcess: a daemon that makes its socket at socketPath all the same is taken as it is', async () => {
  const manager = await started();
  const file = world.path('public');
  fs.writeFileSync(file, world.socket('plugin'));
  await manager.upgradeProcess('plugin', { args: named('two', 'public', file) });
  expect(await served()).toBe('two');
  await manager.upgradeProcess('plugin', { args: named('three') });
  expect(await served()).toBe('three');
});

testWith('strace')('upgradeProcess: and also if it has made its socket before the supervisor looks', async () => {
  const owner = commandedOwner();
  await expectStartAndStop(owner, 'warm');
  await owner.asks('startProcess', world.config('plugin', ['answers-its-name.py', 'one']));
  const file = world.path('public');
  fs.writeFileSync(file, world.socket('plugin'));
  const slow = await inject(world, await supervisorThread(owner), ['statx:delay_enter=500000'], { file: world.socket('plugin') });
  expect((await owner.asks('upgradeProcess', 'plugin', { args: named('two', 'public', file) })).error).toBeUndefined();
  await slow.stop();
  expect(slow.calls().length).toBeGreaterThan(0);
  expect(await served()).toBe('two');
});

test('upgradeProcess: arguments that name socketPath lead to stop-then-start', async () => {
  const manager = await started();
  const events = record(manager);
  await manager.upgradeProcess('plugin', { args: [...named('two'), '--socket', world.socket('plugin')] });
  expect(await served()).toBe('two');
  expect(events.states('plugin')).toEqual(['stopping', 'stopped', 'starting', 'running']);
  expect(events.of('exit')).toEqual([expect.objectContaining({ reason: 'upgraded' })]);
});

test('upgradeProcess: stop-then-start returns to the old configuration if the new one fails', async () => {
  const manager = await started();
  const { config } = manager.getProcessInfo('plugin');
  const args = [...named('two', 'refuse'), '--socket', world.socket('plugin')];
  const error = await failure(manager.upgradeProcess('plugin', { args }));
  expect(error).toMatchObject({ code: 'ERR_UPGRADE', exitCode: 3 });
  await manager.whenRunning('plugin');
  expect(await served()).toBe('one');
  expect(manager.getProcessInfo('plugin').config).toBe(config);
});

test('upgradeProcess: a plugin that does not run is started with the new configuration', async () => {
  const manager = await started();
  await manager.stopProcess('plugin');
  await manager.upgradeProcess('plugin', { args: named('two') });
  expect(await served()).toBe('two');
  expect(manager.getProcessInfo('plugin').config.args).toEqual(named('two'));
});

test('upgradeProcess: socketPath can change', async () => {
  const manager = await started();
  const path = world.path('other.sock');
  await manager.upgradeProcess('plugin', { args: named('two'), socketPath: path });
  expect(await ask(path)).toContain('two');
  expect(fs.existsSync(world.socket('plugin'))).toBe(false);
  await manager.startProcess(world.config('second', ['serves.py'], { socketPath: world.socket('plugin') }));
});

test('upgradeProcess: passes a health check before it serves', async () => {
  const healthcheck = {
    interval: 60_000,
    timeout: 1_000,
    retries: 1,
    probe: { type: 'exec', command: '/bin/sh', args: ['-c', `exit $CODE`] },
  };
  const manager = await started({ healthcheck: { interval: 60_000, timeout: 1_000, retries: 1 } });
  const error = await failure(manager.upgradeProcess('plugin', { args: named('two'), envVars: { CODE: '7' }, healthcheck }));
  expect(error).toMatchObject({ code: 'ERR_UPGRADE' });
  expect(error.message).toContain('unhealthy after 1 failed health checks');
  expect(await served()).toBe('one');
  await manager.upgradeProcess('plugin', { args: named('two'), envVars: { CODE: '0' }, healthcheck });
  expect(await served()).toBe('two');
});

test('upgradeProcess: getOutput and output events have what both generations print', async () => {
  const manager = world.manager();
  const lines = [];
  manager.on('output', ({ line }) => lines.push(line));
  const talks = (name) => [
    '-c',
    `trap 'echo ending ${name}; exit 0' TERM; echo begin ${name}; "$0" "$@" & wait`,
    world.config().command,
    ...named(name),
  ];
  await manager.startProcess({ ...world.config('plugin', []), command: '/bin/sh', args: talks('one') });
  await manager.upgradeProcess('plugin', { args: talks('two') });
  await until(() => lines.length === 3);
  expect(lines).toEqual(['begin one', 'begin two', 'ending one']);
  expect(manager.getOutput('plugin')).toEqual(lines);
});

test('stopAllProcesses: during an upgrade leaves nothing', async () => {
  const manager = await started();
  const upgrade = failure(manager.upgradeProcess('plugin', { args: named('two', 'never') }));
  await until(() => others().length > 0);
  await manager.stopAllProcesses();
  expect((await upgrade).code).toBe('ERR_STOPPED');
  expectNothingLeft(world, 'plugin');
});
