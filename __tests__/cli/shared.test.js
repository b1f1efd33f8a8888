'use strict';
// The command line and shared daemons: what the host shows, and what it is asked.

const fs = require('node:fs');
const path = require('node:path');
const { contents, useCli } = require('../helpers/cli');
const { testOnLinux } = require('../helpers/needs');
const { alive, identify, signal, stat } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('../sharing/sessions');

const world = useWorld();
const cli = useCli(world);
const { shared, started, host, hostGone, folder, session } = useSessions(world);

const states = async (owner) => (await owner.asks('recorded')).value.filter(({ type }) => type === 'stateChange').map(({ to }) => to);

testOnLinux('ps: of a shared daemon state, sessions, restarts and last error are those of its host', async () => {
  const { daemon } = await started();
  const second = session();
  expect(await second.asks('startProcess', shared())).toEqual({});
  const before = contents(folder());
  const row = await cli.row();
  expect(row).toMatchObject({ state: 'running', pid: daemon.pid, restarts: 0, lastError: null });
  expect(row.owner).toEqual({
    kind: 'shared',
    pid: host().pid,
    command: null,
    place: null,
    keeper: null,
    sessions: 2,
    linger: null,
  });
  expect((await cli(['ps'])).stdout).toMatch(/^plugin +running +\d+ +shared ×2 +\d+s +0 /m);
  expect(contents(folder())).toEqual(before);
});

testOnLinux('ps: a daemon that lingers, and one that has failed', async () => {
  const { owner } = await started(shared('plugin', ['serves.py'], { shared: { linger: 60_000 } }));
  await owner.asks('stopProcess', 'plugin');
  const row = await cli.row();
  expect(row.owner).toMatchObject({ kind: 'shared', sessions: 0 });
  expect(row.owner.linger).toBeLessThanOrEqual(60_000);
  expect(row.owner.linger).toBeGreaterThan(0);
  expect(Number.isInteger(row.owner.linger)).toBe(true);
  expect((await cli(['ps'])).stdout).toContain('shared, lingers');
  expect((await owner.asks('startProcess', shared('broken', ['exits.py'], { restart: { maxAttempts: 0 } }))).error).toBeDefined();
  const broken = await cli.row('broken');
  expect(broken).toMatchObject({ state: 'error', pid: null, owner: { kind: 'shared', sessions: 1 } });
  expect(broken.lastError).toContain('exited');
  expect(await cli(['stop', 'plugin', 'broken'])).toMatchObject({ code: 0, stderr: '' });
  await hostGone();
});

testOnLinux('stop: a shared daemon ends for all sessions, which hear of it', async () => {
  const { owner, daemon } = await started();
  expect(await cli(['stop', 'plugin'])).toEqual({ code: 0, stdout: `plugin: stopped (pid ${daemon.pid})\n`, stderr: '' });
  expect(alive(daemon)).toBe(false);
  await until(async () => (await states(owner)).at(-1) === 'stopped');
  expect(await states(owner)).toEqual(['starting', 'running', 'stopping', 'stopped']);
  await hostGone();
});

testOnLinux('restart: a shared daemon is restarted for all sessions', async () => {
  const { owner, daemon } = await started();
  expect(await cli(['restart', 'plugin'])).toEqual({ code: 0, stdout: 'plugin: restarted\n', stderr: '' });
  expect(alive(daemon)).toBe(false);
  const next = (await owner.asks('getPid', 'plugin')).value;
  expect(next).not.toBe(daemon.pid);
  expect(alive(identify(next))).toBe(true);
  expect((await cli.json(['restart', 'plugin'])).plugins).toEqual([{ name: 'plugin', result: 'restarted', error: null }]);
});

testOnLinux('stop --all: the host ends with all its daemons; without a host there is nothing to do', async () => {
  const { owner, daemon } = await started();
  expect(await owner.asks('startProcess', shared('other'))).toEqual({});
  const other = identify((await owner.asks('getPid', 'other')).value);
  const outcome = await cli.json(['stop', '--all']);
  expect(outcome.plugins).toEqual([
    { name: 'other', result: 'stopped', pids: [other.pid], error: null },
    { name: 'plugin', result: 'stopped', pids: [daemon.pid], error: null },
  ]);
  expect([daemon, other].filter((process) => alive(process))).toEqual([]);
  await hostGone();
  expect(await cli(['stop', '--all'])).toEqual({ code: 0, stdout: 'there is no shared daemon\n', stderr: '' });
});

testOnLinux('stop --all: daemons of a host whose socket was removed are named, and stop --force ends them', async () => {
  const { daemon } = await started();
  const { pid } = host();
  fs.rmSync(path.join(folder(), 'host.sock'));
  const { code, stderr } = await cli(['stop', '--all']);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: `ally-daemons: plugin was left alone: the socket of its host, process ${pid}, was removed: ally-daemons stop --force plugin\n`,
  });
  expect(alive(daemon)).toBe(true);
  expect((await cli(['stop', '--force', 'plugin'])).code).toBe(0);
  expect(alive(daemon)).toBe(false);
});

testOnLinux('ps: a host that is suspended is named, and stop --force ends its daemon all the same', async () => {
  const { daemon } = await started();
  const { pid } = host();
  signal(pid, 'SIGSTOP');
  try {
    const row = await cli.row();
    expect(row).toMatchObject({ state: 'running', pid: daemon.pid, restarts: null, owner: { kind: 'shared', pid, sessions: null } });
    expect(row.lastError).toContain(`process ${pid}, which is stopped, does not answer`);
    expect(stat(pid).state).toBe('T');
    expect(await cli(['logs', 'plugin'])).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('does not answer') });
    expect((await cli(['stop', 'plugin', '--force'])).code).toBe(0);
    expect(alive(daemon)).toBe(false);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
});

testOnLinux('logs: without logs.file the output of a shared daemon is that which its host keeps', async () => {
  await started(shared('plugin', ['exits.py', '--listen', '--after', 60_000, '--out', 'ready to serve']));
  const following = cli.begin(['logs', '-f', '--json', 'plugin']);
  await until(() => following.stdout === '{"line":"ready to serve"}\n');
  expect(await cli(['logs', 'plugin'])).toEqual({ code: 0, stdout: 'ready to serve\n', stderr: '' });
  expect((await cli(['logs', '-n', 0, 'plugin'])).stdout).toBe('');
  expect((await cli(['stop', 'plugin'])).code).toBe(0);
  expect((await following.ended).code).toBe(0);
});

testOnLinux('logs -f: after the death of the host it follows the next one, and no line is printed twice', async () => {
  const config = shared('plugin', ['exits.py', '--listen', '--after', 60_000, '--out', 'ready to serve']);
  const { owner, daemon } = await started(config);
  const following = cli.begin(['logs', '-f', 'plugin']);
  await until(() => following.stdout === 'ready to serve\n');
  for (const times of [2, 3]) {
    signal(host(), 'SIGKILL');
    await until(() => following.stdout === 'ready to serve\n'.repeat(times), 15_000);
    expect(following.stderr.split('the host of plugin was killed').length).toBe(times);
  }
  expect(alive(daemon)).toBe(false);
  expect((await owner.asks('getProcessInfo', 'plugin')).value.totalRestarts).toBe(2);
  expect((await cli(['stop', 'plugin'])).code).toBe(0);
  expect(await following.ended).toMatchObject({ code: 0, stdout: 'ready to serve\n'.repeat(3) });
});

testOnLinux(
  'logs -f: if no session starts the daemon again after the death of the host, exit code 1 and one sentence',
  async () => {
    const fixture = ['exits.py', '--listen', '--after', 60_000, '--out', 'ready to serve'];
    const { owner } = await started(shared('plugin', fixture, { shared: { linger: 60_000 } }));
    await owner.asks('stopProcess', 'plugin');
    const following = cli.begin(['logs', '-f', 'plugin']);
    await until(() => following.stdout === 'ready to serve\n');
    const { pid } = host();
    process.kill(pid, 'SIGKILL');
    expect(await following.ended).toMatchObject({
      code: 1,
      stderr: `ally-daemons: plugin: its host, process ${pid}, was killed, and no session has started it again\n`,
    });
  },
  30_000,
);

testOnLinux('ps, stop --all: without a host nothing is made', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  expect((await cli.row()).owner.kind).toBe('process');
  expect((await cli(['stop', '--all'])).code).toBe(0);
  expect(fs.existsSync(folder())).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
});

testOnLinux('doctor: the host is one line, and a warning while it is suspended; without one there is none', async () => {
  const checks = async () => {
    const { checks } = JSON.parse((await cli(['doctor', '--json'])).stdout);
    expect(checks.filter(({ plugin }) => plugin?.startsWith('.ally-'))).toEqual([]);
    return checks.filter(({ check }) => check === 'host');
  };
  world.makeFolder('plugin');
  expect(await checks()).toEqual([]);
  const { owner } = await started(shared('plugin', ['serves.py'], { shared: { linger: 60_000 } }));
  const { pid } = host();
  const ok = (seen) => expect.objectContaining({ status: 'ok', seen: `process ${pid}, ${seen}` });
  expect(await checks()).toEqual([ok('1 shared plugin, at most 1 session each')]);
  await owner.asks('stopProcess', 'plugin');
  expect(await checks()).toEqual([ok('1 shared plugin, no session')]);
  signal(pid, 'SIGSTOP');
  try {
    expect(await checks()).toEqual([
      expect.objectContaining({ status: 'warning', seen: `process ${pid} is suspended`, remedy: `kill -CONT ${pid}` }),
    ]);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  expect((await cli(['stop', '--all'])).code).toBe(0);
  await hostGone();
});

testOnLinux('doctor: a file in the place of the folder of the host is a problem', async () => {
  fs.mkdirSync(world.envsDir, { recursive: true, mode: 0o700 });
  fs.writeFileSync(folder(), '');
  const { code, stdout } = await cli(['doctor', '--json']);
  expect(code).toBe(1);
  expect(JSON.parse(stdout).checks).toContainEqual(
    expect.objectContaining({ status: 'problem', check: 'host', remedy: expect.stringMatching(/^rm .*\.ally-host-/) }),
  );
});
