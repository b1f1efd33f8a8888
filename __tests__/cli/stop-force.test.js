'use strict';
// `stop --force`: the daemon of a living owner is ended through its keeper.

const fs = require('node:fs');
const path = require('node:path');
const { ask } = require('../helpers/ask');
const { between } = require('../helpers/commanded-owner');
const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { alive, identify, signal, stat } = require('../helpers/proc');
const { contents, useCli } = require('../helpers/cli');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();
const cli = useCli(world);
const GRACE = 300;

const force = (...names) => cli.begin(['stop', '--force', ...names]);
const recordFile = () => path.join(world.folder('plugin'), 'daemon.id');

async function running(changes = {}, words = ['serves.py']) {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', words, { shutdownGracePeriod: GRACE, restart: { delay: 0 }, ...changes }));
  return { manager, events, daemon: identify(manager.getPid('plugin')) };
}

/** The daemon stays stopped, and its owner knows by whom. */
async function expectEnded({ manager, events, daemon }, by, exit) {
  await until(() => events.states('plugin').length === 4 && events.of('exit').length > 0);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'stopping', 'stopped']);
  expect(events.of('exit')).toEqual([expect.objectContaining({ pluginName: 'plugin', pid: daemon.pid, reason: 'stopped', ...exit })]);
  expect(events.of('restart')).toEqual([]);
  const info = manager.getProcessInfo('plugin');
  expect(info).toMatchObject({ state: 'stopped', lastError: `stopped by process ${by} (ally-daemons)` });
  expect(info.nextRestartAt).toBeUndefined();
}

testOnLinux('stop --force: the owner hears stopping, exit and stopped, has lastError, and restarts nothing', async () => {
  const owned = await running();
  const run = force('plugin');
  expect(await run.ended).toEqual({ code: 0, stdout: `plugin: stopped (pid ${owned.daemon.pid})\n`, stderr: '' });
  expect(alive(owned.daemon)).toBe(false);
  await expectEnded(owned, run.child.pid, { code: 0 });
  // The name is the owner's as after stopProcess: free.
  await owned.manager.startProcess(world.config());
  await owned.manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin', [owned.daemon]);
});

testOnLinux('stop --force: a tree that ignores the stop signal gets its grace period, then SIGKILL', async () => {
  const marker = world.path('family');
  const owned = await running({}, ['leads-a-tree.py', marker, 'stubborn', 'fled']);
  const family = Object.values(await world.tree(marker));
  const begun = Date.now();
  const outcome = await cli.json(['stop', 'plugin', '--force']);
  expect(Date.now() - begun).toBeGreaterThanOrEqual(GRACE);
  expect(outcome.plugins).toEqual([{ name: 'plugin', result: 'stopped', pids: [owned.daemon.pid], error: null }]);
  expect([owned.daemon, ...family].filter(alive)).toEqual([]);
  await until(() => owned.manager.getState('plugin') === 'stopped');
});

testOnLinux('stop --force: a pending start and whenRunning reject with ERR_STOPPED', async () => {
  const manager = world.manager();
  const start = failure(manager.startProcess(world.config('plugin', ['never-listens.py'])));
  const wait = failure(manager.whenRunning('plugin'));
  await until(() => manager.getPid('plugin') !== undefined && fs.existsSync(recordFile()));
  expect((await force('plugin').ended).code).toBe(0);
  expect((await start).code).toBe('ERR_STOPPED');
  expect((await wait).code).toBe('ERR_STOPPED');
  expect(manager.getState('plugin')).toBe('stopped');
});

testOnLinux('stop --force: a suspended owner does not keep its daemon, and hears of the end when it goes on', async () => {
  const marker = world.path('family');
  const config = world.config('plugin', ['leads-a-tree.py', marker, 'stubborn'], { shutdownGracePeriod: GRACE });
  const owner = world.owner('starts-and-ends.js', { configs: [config], end: 'wait' });
  const daemon = identify((await owner.says('ready')).plugin);
  const family = Object.values(await world.tree(marker));
  const helpers = between(owner, daemon);
  signal(owner.child.pid, 'SIGSTOP');
  expect(await force('plugin').ended).toEqual({ code: 0, stdout: `plugin: stopped (pid ${daemon.pid})\n`, stderr: '' });
  expect([daemon, ...family].filter(alive)).toEqual([]);
  owner.child.kill('SIGCONT');
  // Without its last daemon the owner lets its guardian go.
  await until(() => !helpers.some(alive));
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
});

testOnLinux('stop --force: an armed plugin without a process is refused, and one that serves is disarmed', async () => {
  const manager = world.manager();
  const changes = { socket: 'manager', start: 'onConnect', shutdownGracePeriod: GRACE };
  await manager.startProcess(world.config('plugin', ['serves-descriptor-3.py', 'one'], changes));
  expect(manager.getProcessInfo('plugin').armed).toBe(true);
  const before = contents(world.envsDir);
  expect(await force('plugin').ended).toEqual({
    code: 1,
    stdout: '',
    stderr: 'ally-daemons: plugin: it has no process: its owner prepares it, or waits for a restart or a connection\n',
  });
  expect(contents(world.envsDir)).toEqual(before);
  expect(manager.getProcessInfo('plugin').armed).toBe(true);
  await ask(world.socket('plugin'));
  await manager.whenRunning('plugin');
  expect((await force('plugin').ended).code).toBe(0);
  await until(() => manager.getState('plugin') === 'stopped');
  expect(manager.getProcessInfo('plugin').armed).toBeUndefined();
  expect(fs.existsSync(world.socket('plugin'))).toBe(false);
});

testOnLinux('stop --force: a keeper of an older version is not signalled, with one sentence', async () => {
  const { manager, daemon } = await running();
  const text = fs.readFileSync(recordFile(), 'utf8');
  fs.writeFileSync(recordFile(), text.replace(/^grace .*\n/m, ''));
  expect(fs.readFileSync(recordFile(), 'utf8')).not.toBe(text);
  expect(await force('plugin').ended).toEqual({
    code: 1,
    stdout: '',
    stderr: 'ally-daemons: plugin: its keeper is of an older version, and ends its tree for its owner only: end the owner\n',
  });
  expect(alive(daemon)).toBe(true);
  expect(manager.isRunning('plugin')).toBe(true);
});

testOnLinux('stop --force: a process that is no keeper, or does not hold this lock, is not signalled', async () => {
  const { manager, daemon } = await running();
  const other = world.manager();
  await other.startProcess(world.config('other'));
  const otherDaemon = identify(other.getPid('other'));
  const otherKeeper = stat(otherDaemon.pid).ppid;
  const stranger = world.program(['serves.py'], { socketPath: world.path('stranger.sock') });
  const text = fs.readFileSync(recordFile(), 'utf8');
  for (const pid of [stranger.pid, otherKeeper, process.pid]) {
    fs.writeFileSync(recordFile(), text.replace(/^keeper .*$/m, `keeper ${pid}`));
    const { code, stderr } = await force('plugin').ended;
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('it has no process') });
  }
  expect([stranger, daemon, otherDaemon].filter((process) => !alive(process))).toEqual([]);
  expect(manager.isRunning('plugin') && other.isRunning('other')).toBe(true);
});

testOnLinux('stop --force: several plugins at the same time, also of a dead owner', async () => {
  const { daemon } = await running();
  const config = world.config('kept', ['serves.py'], { shutdownGracePeriod: GRACE });
  const owner = world.owner('starts-and-ends.js', { configs: [config], options: { onOwnerDeath: 'keep' }, end: 'wait' });
  const kept = identify((await owner.says('ready')).kept);
  owner.child.kill('SIGKILL');
  await owner.exited;
  const { code, stdout } = await force('plugin', 'kept', 'plugin').ended;
  expect({ code, stdout }).toEqual({ code: 0, stdout: `plugin: stopped (pid ${daemon.pid})\nkept: stopped (pid ${kept.pid})\n` });
  expect([daemon, kept].filter(alive)).toEqual([]);
});
