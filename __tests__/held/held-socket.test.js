'use strict';

const fs = require('node:fs');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { TOOLS, testOnLinux, testWith } = require('../helpers/needs');
const { alive, children, identify, signal, stat, target } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { ask, busyClients, refusal, waiting } = require('./clients');

const world = useWorld();
const { commandedOwner, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

const held = (name, fixture = ['serves-held.py'], changes = {}) =>
  world.config(name, fixture, { socket: 'manager', restart: { delay: 20, jitter: 0 }, ...changes });
/** The names in the plugin's folder that begin as its socket does. */
const names = (name) => fs.readdirSync(world.folder(name)).filter((file) => file.startsWith('daemon.sock'));
const pidOf = (answer) => Number(answer.split(' ')[0]);
const descriptors = (pid) => fs.readdirSync(`/proc/${pid}/fd`).map(Number);

testOnLinux("socket: 'manager': the daemon serves descriptor 3, and only its user can connect", async () => {
  const manager = world.manager();
  // Node's umask is that of the whole process.
  const before = process.umask(0);
  await manager.startProcess(held('plugin')).finally(() => process.umask(before));
  const pid = manager.getPid('plugin');
  expect(await ask(world.socket('plugin'))).toBe(`${pid} hello`);
  expect(fs.statSync(world.socket('plugin')).mode & 0o7777).toBe(0o600);
  expect(names('plugin')).toEqual(['daemon.sock', 'daemon.sock.held']);
  expect(fs.statSync(world.socket('plugin')).ino).toBe(fs.statSync(`${world.socket('plugin')}.held`).ino);
  await manager.stopProcess('plugin');
  expect(names('plugin')).toEqual([]);
  expect(await refusal(world.socket('plugin'))).toBe('ENOENT');
});

testOnLinux("socket: 'manager': no descriptor beside 0 to 3 reaches the daemon, and the variables are those of sd_listen_fds", async () => {
  world.setEnvironment({ LISTEN_FDS: '7', LISTEN_PID: '1', LISTEN_FDNAMES: 'x', ALLY_LISTEN_FD: '9' });
  const manager = world.manager();
  const config = held('plugin', [], {
    command: '/bin/sh',
    args: ['-c', 'env; exec sleep 60'],
    readiness: { type: 'output', pattern: 'PWD' },
  });
  await manager.startProcess(config);
  const pid = manager.getPid('plugin');
  // For a moment, `sleep` has its libraries open.
  await until(() => String(descriptors(pid)) === '0,1,2,3');
  await until(() => manager.getOutput('plugin').some((line) => line.startsWith('ALLY_LISTEN_FD')));
  const variables = manager.getOutput('plugin').filter((line) => /^(LISTEN_|ALLY_LISTEN|SOCKET_PATH)/.test(line));
  expect(variables.sort()).toEqual([
    'ALLY_LISTEN_FD=3',
    'LISTEN_FDNAMES=socket',
    'LISTEN_FDS=1',
    `LISTEN_PID=${pid}`,
    `SOCKET_PATH=${world.socket('plugin')}`,
  ]);
  // Neither the keeper nor the guardian has a copy.
  const socket = fs.readlinkSync(`/proc/${pid}/fd/3`);
  const keeper = stat(pid).ppid;
  for (const process of [keeper, stat(keeper).ppid]) {
    const links = descriptors(process).map((number) => target(process, number));
    expect(links).not.toContain(socket);
  }
});

testOnLinux("socket: 'manager': variables of envVars do not replace those of the held socket", async () => {
  const manager = world.manager();
  const envVars = { LISTEN_FDS: '7', LISTEN_PID: '1', ALLY_LISTEN_FD: '9', LISTEN_ADDRESS: 'mine' };
  await manager.startProcess(held('plugin', undefined, { envVars }));
  const environment = fs.readFileSync(`/proc/${manager.getPid('plugin')}/environ`, 'utf8').split('\0');
  expect(environment.filter((entry) => /LISTEN/.test(entry)).sort()).toEqual([
    'ALLY_LISTEN_FD=3',
    'LISTEN_ADDRESS=mine',
    'LISTEN_FDNAMES=socket',
    'LISTEN_FDS=1',
    `LISTEN_PID=${manager.getPid('plugin')}`,
  ]);
});

testOnLinux("socket: 'manager': a Node daemon that listens with { fd: 3 } serves before and after a restart", async () => {
  const manager = world.manager();
  const fixture = require('node:path').join(__dirname, '..', 'fixtures', 'daemons', 'serves-held.mjs');
  await manager.startProcess(held('plugin', [], { command: process.execPath, args: [fixture] }));
  expect(pidOf(await ask(world.socket('plugin')))).toBe(manager.getPid('plugin'));
  await manager.restartProcess('plugin');
  expect(pidOf(await ask(world.socket('plugin')))).toBe(manager.getPid('plugin'));
  // libuv has set O_NONBLOCK, which all copies of the socket share. A blocking daemon must find it cleared.
  const flags = () => Number.parseInt(fs.readFileSync(`/proc/${manager.getPid('plugin')}/fdinfo/3`, 'utf8').match(/flags:\s*(\d+)/)[1], 8);
  expect(flags() & 0o4000).toBe(0o4000);
  await manager.stopProcess('plugin');
});

testOnLinux("socket: 'manager': accept(2) waits in a daemon whose predecessor has set O_NONBLOCK", async () => {
  const manager = world.manager();
  const setter =
    'import fcntl, os; fcntl.fcntl(3, fcntl.F_SETFL, os.O_NONBLOCK); import socket; s = socket.socket(fileno=3); s.setblocking(0); print("set", flush=True)';
  const once = `${setter}\nimport time\ntime.sleep(60)`;
  const code = `import os, sys\nif not os.path.exists("seen"):\n open("seen", "w")\n exec(${JSON.stringify(once)})\nimport fcntl\nprint("flags", fcntl.fcntl(3, fcntl.F_GETFL) & os.O_NONBLOCK, fcntl.fcntl(3, fcntl.F_GETFD), flush=True)\nimport time\ntime.sleep(60)`;
  const config = held('plugin', [], { args: ['-S', '-E', '-B', '-c', code], readiness: { type: 'output', pattern: 'set|flags' } });
  await manager.startProcess(config);
  await manager.restartProcess('plugin');
  expect(manager.getOutput('plugin')).toContain('flags 0 0');
});

testWith('libsystemd')("socket: 'manager': sd_listen_fds_with_names(3) finds the socket in the leader", async () => {
  const manager = world.manager();
  await manager.startProcess(held('plugin', ['asks-systemd.py']));
  expect(pidOf(await ask(world.socket('plugin')))).toBe(manager.getPid('plugin'));
});

testOnLinux("socket: 'manager': a server behind a wrapper finds the socket by ALLY_LISTEN_FD", async () => {
  const manager = world.manager();
  const { command, args } = held('plugin');
  await manager.startProcess(held('plugin', [], { command: '/bin/sh', args: ['-c', '"$@" & wait', 'sh', command, ...args] }));
  const pid = pidOf(await ask(world.socket('plugin')));
  expect(pid).not.toBe(manager.getPid('plugin'));
  expect(stat(pid).ppid).toBe(manager.getPid('plugin'));
});

// Crash, restart, end.

testOnLinux("socket: 'manager': a client that connects between a crash and the restart is served by the next daemon", async () => {
  const manager = world.manager();
  await manager.startProcess(held('plugin', undefined, { restart: { delay: 300, jitter: 0 } }));
  const first = identify(manager.getPid('plugin'));
  signal(first, 'SIGKILL');
  await until(() => manager.getState('plugin') === 'starting');
  const answer = await ask(world.socket('plugin'));
  await until(() => manager.isRunning('plugin'));
  expect(pidOf(answer)).toBe(manager.getPid('plugin'));
  expect(pidOf(answer)).not.toBe(first.pid);
});

testOnLinux("socket: 'manager': of 8 busy clients none is refused during kills and restarts", async () => {
  const manager = world.manager();
  await manager.startProcess(held('plugin', undefined, { restart: { delay: 5, jitter: 0, window: { limit: 100, period: 60_000 } } }));
  const clients = busyClients(world.socket('plugin'), 8);
  for (let round = 0; round < 8; round++) {
    const { answered } = clients.seen;
    await until(() => clients.seen.answered > answered + 20);
    const pid = manager.getPid('plugin');
    if (round % 2 === 0) signal(identify(pid), 'SIGKILL');
    else await manager.restartProcess('plugin');
    await until(() => runsAnew(manager, 'plugin', pid));
  }
  const seen = await clients.stop();
  expect(seen.refused).toEqual([]);
  expect(seen.answered).toBeGreaterThan(160);
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running', totalRestarts: 4 });
});

testOnLinux("socket: 'manager': clients that wait read end of file when the manager gives up, and the names are gone", async () => {
  const manager = world.manager();
  // The second attempt exits at once, and there is no third one.
  const config = held('plugin', undefined, { restart: { maxAttempts: 1, delay: 400, jitter: 0 } });
  const code =
    'import os, sys\nif os.path.exists("again"): os._exit(3)\nopen("again", "w")\nsys.path.insert(0, sys.argv[1])\nimport held\nheld.serve(held.listener())';
  config.args = ['-S', '-E', '-B', '-c', code, require('node:path').join(__dirname, '..', 'fixtures', 'daemons')];
  await manager.startProcess(config);
  signal(identify(manager.getPid('plugin')), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'starting');
  const clients = await Promise.all(Array.from({ length: 3 }, () => waiting(world.socket('plugin'))));
  // Bytes that nobody has read must not become ECONNRESET.
  clients[0].client.write('unread'.repeat(1000));
  await until(() => manager.getState('plugin') === 'error');
  await Promise.all(clients.map(({ ended }) => ended));
  expect(names('plugin')).toEqual([]);
  expect(await refusal(world.socket('plugin'))).toBe('ENOENT');
  expect(manager.getProcessInfo('plugin').lastError).toContain('Maximum restart attempts exceeded');
});

testOnLinux("socket: 'manager': stopProcess closes what waits in the queue of a daemon that never accepts", async () => {
  const manager = world.manager();
  const config = held('plugin', ['never-takes-held.py'], { readiness: { type: 'exec', command: 'true' } });
  await manager.startProcess(config);
  const clients = await Promise.all(Array.from({ length: 100 }, () => waiting(world.socket('plugin'))));
  await manager.stopProcess('plugin');
  expect(names('plugin')).toEqual([]);
  await Promise.all(clients.map(({ ended }) => ended));
});

testOnLinux("socket: 'manager': a failed start leaves no socket", async () => {
  const manager = world.manager();
  const error = await failure(manager.startProcess(held('plugin', ['exits.py', '--code', 3])));
  expect(error.code).toBe('ERR_STARTUP_EXIT');
  expect(names('plugin')).toEqual([]);
  await manager.startProcess(held('plugin'));
  expect(await ask(world.socket('plugin'))).toContain('hello');
});

testOnLinux("socket: 'manager': a start in place of a pending restart may have another socketPath", async () => {
  const manager = world.manager();
  await manager.startProcess(held('plugin', undefined, { restart: { delay: 60_000, jitter: 0 } }));
  signal(identify(manager.getPid('plugin')), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'starting');
  const client = await waiting(world.socket('plugin'));
  const socketPath = world.path('other.sock');
  await manager.startProcess(held('plugin', undefined, { socketPath }));
  await client.ended;
  expect(names('plugin')).toEqual([]);
  expect(pidOf(await ask(socketPath))).toBe(manager.getPid('plugin'));
});

// What daemons do to the socket.

testOnLinux("socket: 'manager': SOCKET_PATH is put back if the daemon removes it, with one warning", async () => {
  const warnings = [];
  const logger = { debug() {}, info() {}, warn: (message) => warnings.push(message), error() {} };
  const manager = world.manager({ logger });
  const socketPath = world.socket('plugin');
  await manager.startProcess(held('plugin', ['unlinks-held.py']));
  const { ino } = fs.statSync(`${socketPath}.held`);
  const inPlace = () => fs.existsSync(socketPath) && fs.statSync(socketPath).ino === ino;
  await until(inPlace);
  expect(pidOf(await ask(socketPath))).toBe(manager.getPid('plugin'));
  fs.unlinkSync(socketPath);
  await until(inPlace);
  // Its second name too.
  fs.unlinkSync(`${socketPath}.held`);
  await until(() => names('plugin').length === 2);
  await manager.restartProcess('plugin');
  await until(inPlace);
  expect(pidOf(await ask(socketPath))).toBe(manager.getPid('plugin'));
  await until(() => warnings.some((text) => text.includes("removes SOCKET_PATH although the socket is the manager's")));
  expect(warnings.filter((text) => text.includes('SOCKET_PATH'))).toHaveLength(1);
});

testOnLinux.each([
  ['receiving half', 0],
  ['both halves', 2],
])("socket: 'manager': after shutdown(2) of the %s there is a new socket, and the daemon is restarted as unhealthy", async (_, how) => {
  const manager = world.manager();
  const socketPath = world.socket('plugin');
  const states = [];
  const exits = [];
  await manager.startProcess(held('plugin', ['shuts-down-held.py', how]));
  manager.on('stateChange', ({ to }) => states.push(to)).on('exit', (event) => exits.push(event));
  const pid = manager.getPid('plugin');
  await ask(socketPath, 'shutdown');
  expect(pidOf(await until(() => ask(socketPath).catch(() => undefined)))).not.toBe(pid);
  await until(() => states.includes('running'));
  expect(exits).toMatchObject([{ pid, reason: 'unhealthy' }]);
  expect(states).toEqual(['stopping', 'starting', 'running']);
  expect(names('plugin')).toEqual(['daemon.sock', 'daemon.sock.held']);
});

testOnLinux("socket: 'manager': the queue is the longest again after a daemon that has shortened it", async () => {
  const manager = world.manager();
  const readiness = { type: 'exec', command: 'true' };
  await manager.startProcess(held('plugin', ['never-takes-held.py', 0], { readiness, restart: { delay: 60_000, jitter: 0 } }));
  const socketPath = world.socket('plugin');
  const first = await waiting(socketPath);
  await until(async () => (await refusal(socketPath)) === 'EAGAIN');
  signal(identify(manager.getPid('plugin')), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'starting');
  await until(async () => (await refusal(socketPath)) === undefined);
  first.client.destroy();
});

testOnLinux("socket: 'manager': the start of a daemon that binds SOCKET_PATH itself fails and says what to do", async () => {
  const manager = world.manager();
  const what =
    /it binds .*daemon\.sock itself, although the manager holds that socket; let it serve descriptor 3 .* or configure socket: 'daemon'/;
  for (const fixture of ['serves.py', 'binds-without-unlinking.py']) {
    const error = await failure(manager.startProcess(held('plugin', [fixture])));
    expect(error.message).toMatch(what);
    expect(['ERR_SOCKET_IN_USE', 'ERR_STARTUP_EXIT']).toContain(error.code);
    expect(names('plugin')).toEqual([]);
    expect(manager.getState('plugin')).toBe('error');
  }
});

testOnLinux("socket: 'manager': another program's socket at SOCKET_PATH is not replaced, and the state is ERROR", async () => {
  const manager = world.manager();
  const socketPath = world.socket('plugin');
  await manager.startProcess(held('plugin'));
  const daemon = identify(manager.getPid('plugin'));
  const program = world.program(['serves.py'], { socketPath: world.path('theirs.sock') });
  await until(() => fs.existsSync(world.path('theirs.sock')));
  await until(async () => (await refusal(world.path('theirs.sock'))) === undefined);
  fs.renameSync(world.path('theirs.sock'), socketPath);
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastError).toContain(`is in use by process ${program.pid}`);
  expect(alive(daemon)).toBe(false);
  expect(alive(program)).toBe(true);
  expect(await refusal(socketPath)).toBeUndefined();
  // The files follow the state.
  await until(() => names('plugin').join() === 'daemon.sock');
});

testOnLinux("socket: 'manager': a start is refused where another program listens", async () => {
  const manager = world.manager();
  const socketPath = world.path('shared.sock');
  const program = world.program(['serves.py'], { socketPath });
  await until(async () => (await refusal(socketPath)) === undefined);
  const error = await failure(manager.startProcess(held('plugin', undefined, { socketPath })));
  expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: program.pid });
  expect(await refusal(socketPath)).toBeUndefined();
});

// Readiness and health.

testOnLinux("socket: 'manager': readiness accept is the default, and a daemon that never accepts is not ready", async () => {
  const manager = world.manager();
  const error = await failure(manager.startProcess(held('plugin', ['never-takes-held.py'], { startupTimeout: 500 })));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expect(error.message).toContain('was not accepted');
});

testOnLinux('readiness accept of a held socket: a connection that waits anyway is asked about, and no other one is made', async () => {
  const manager = world.manager();
  const counted = world.path('count');
  const code = `import os, sys, time\nsys.path.insert(0, sys.argv[1])\nimport held\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.005)\nserver = held.listener()\nconnection, _ = server._accept()\nprint("took", os.read(connection, 9), flush=True)\nserver.setblocking(False)\ntime.sleep(0.3)\ntry:\n server._accept()\n print("another", flush=True)\nexcept BlockingIOError:\n print("no other", flush=True)\ntime.sleep(60)`;
  const fixtures = require('node:path').join(__dirname, '..', 'fixtures', 'daemons');
  // On demand, so that the client waits before the probe looks for the first time.
  await manager.startProcess(held('plugin', [], { start: 'onConnect', args: ['-S', '-E', '-B', '-c', code, fixtures, counted] }));
  const client = await waiting(world.socket('plugin'));
  client.client.write('mine');
  await until(() => manager.getPid('plugin'));
  // The probe looks at once after the spawn, so it has looked when a later start is ready.
  await manager.startProcess(world.config('other'));
  fs.writeFileSync(counted, '');
  await until(() => manager.getOutput('plugin').some((line) => /other/.test(line)));
  expect(manager.getOutput('plugin')).toEqual(["took b'mine'", 'no other']);
  await until(() => manager.isRunning('plugin'));
  client.client.destroy();
});

testOnLinux("socket: 'manager': a hung daemon fails its health check accept", async () => {
  const manager = world.manager();
  const healthcheck = { interval: 50, timeout: 100, retries: 2 };
  await manager.startProcess(held('plugin', undefined, { healthcheck }));
  await until(() => manager.getMetrics('plugin').healthChecks.passed > 1);
  const daemon = identify(manager.getPid('plugin'));
  signal(daemon, 'SIGSTOP');
  await until(() => runsAnew(manager, 'plugin', daemon.pid));
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: daemon.pid, reason: 'unhealthy' });
});

test.each(['listen', 'socket'])("socket: 'manager': the probe %s is refused", async (type) => {
  const manager = world.manager();
  const error = await failure(manager.startProcess(held('plugin', undefined, { readiness: { type } })));
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toContain(`readiness.type '${type}' says nothing about the daemon here`);
});

// The end of the owner, and file systems without links.

testOnLinux("socket: 'manager': after the death of the owner its file refuses, and the next start replaces both names", async () => {
  const owner = commandedOwner();
  expect((await owner.asks('startProcess', held('plugin'))).error).toBeUndefined();
  const socketPath = world.socket('plugin');
  const daemon = identify(pidOf(await ask(socketPath)));
  owner.child.kill('SIGKILL');
  await until(() => !alive(daemon));
  await until(async () => (await refusal(socketPath)) === 'ECONNREFUSED');
  expect(names('plugin')).toEqual(['daemon.sock', 'daemon.sock.held']);
  const manager = world.manager();
  await manager.startProcess(held('plugin'));
  expect(pidOf(await ask(socketPath))).toBe(manager.getPid('plugin'));
  await manager.stopProcess('plugin');
  expect(names('plugin')).toEqual([]);
});

testOnLinux("socket: 'manager': a start with socket 'daemon' removes both names that a killed owner has left", async () => {
  const owner = commandedOwner();
  await owner.asks('startProcess', held('plugin'));
  const daemon = identify(pidOf(await ask(world.socket('plugin'))));
  owner.child.kill('SIGKILL');
  await until(() => !alive(daemon));
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  expect(names('plugin')).toEqual(['daemon.sock']);
});

testWith('strace')(
  "socket: 'manager': where sockets can't be linked, a removed name is a new socket for the restarted daemon",
  async () => {
    const owner = commandedOwner();
    await expectStartAndStop(owner, 'warm');
    const fault = await inject(world, await supervisorThread(owner), ['linkat:error=EPERM']);
    const socketPath = world.socket('plugin');
    expect((await owner.asks('startProcess', held('plugin'))).error).toBeUndefined();
    expect(names('plugin')).toEqual(['daemon.sock']);
    const pid = pidOf(await ask(socketPath));
    fs.unlinkSync(socketPath);
    const next = await until(() => ask(socketPath).then(pidOf, () => undefined));
    expect(next).not.toBe(pid);
    await until(async () => (await owner.asks('isRunning', 'plugin')).value);
    expect(names('plugin')).toEqual(['daemon.sock']);
    await owner.asks('stopProcess', 'plugin');
    expect(names('plugin')).toEqual([]);
    await fault.stop();
  },
);

testOnLinux("socket: 'manager': what killMode 'group' spares does not listen after a stop", async () => {
  const manager = world.manager();
  const { command, args } = held('plugin');
  const shell = held('plugin', [], {
    command: '/bin/sh',
    args: ['-c', 'setsid sleep 60 & exec "$@"', 'sh', command, ...args],
    killMode: 'group',
  });
  await manager.startProcess(shell);
  const [spared] = await until(() => {
    const found = children(manager.getPid('plugin'));
    return found.length > 0 && found;
  });
  world.killAtEnd(identify(spared.pid));
  const socketPath = world.socket('plugin');
  const client = await waiting(socketPath);
  await manager.stopProcess('plugin');
  await client.ended.catch(() => {});
  expect(names('plugin')).toEqual([]);
  await manager.startProcess(shell);
  expect(pidOf(await ask(socketPath))).toBe(manager.getPid('plugin'));
  for (const each of children(manager.getPid('plugin'))) world.killAtEnd(identify(each.pid));
});

testWith('uvicorn')("socket: 'manager': uvicorn --fd 3 serves before and after a restart", async () => {
  const manager = world.manager();
  const app =
    'async def app(scope, receive, send):\n    if scope["type"] == "http":\n        await send({"type": "http.response.start", "status": 200})\n        await send({"type": "http.response.body", "body": b"hello"})\n';
  fs.writeFileSync(`${world.pluginPath}/app.py`, app);
  const config = held('plugin', [], {
    command: 'python3',
    args: ['-B', '-m', 'uvicorn', '--fd', '3', 'app:app'],
    envVars: { PYTHONPATH: TOOLS },
    readiness: { type: 'http', path: '/' },
  });
  await manager.startProcess(config);
  await manager.restartProcess('plugin');
  expect(await ask(world.socket('plugin'), 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')).toMatch(/^HTTP\/1.1 200/);
});
