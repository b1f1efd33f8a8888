'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync, spawn } = require('node:child_process');
const { record } = require('../helpers/events');
const { ANOTHER, as, testOnLinux, testWith } = require('../helpers/needs');
const { alive, descriptors, environment, identify, signal } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { PYTHON } = require('../helpers/python');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();
const NOTIFY = { type: 'notify' };

/** A daemon that carries out `steps`. */
const notifies = (steps, changes) => world.config('plugin', ['notifies.py', ...steps], { readiness: NOTIFY, ...changes });

const shell = (script, changes) => world.config('plugin', [], { readiness: NOTIFY, command: 'sh', args: ['-c', script], ...changes });

const variable = (manager, name) => environment(manager.getPid('plugin')).get(name);

/** Sends a datagram to a socket, from a process of its own that lives on. */
function stranger(socket, text, before = []) {
  const code =
    'import socket, sys, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(sys.argv[2].encode(), sys.argv[1]); print("sent", flush=True); time.sleep(60)';
  const [command, ...args] = [...before, PYTHON, '-S', '-E', '-c', code, socket, text];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  world.finally(() => child.kill('SIGKILL'));
  return new Promise((resolve) => child.stdout.once('data', () => resolve(child)));
}

test('readiness notify: a daemon without a socket is ready after READY=1, and not before', async () => {
  const manager = world.manager();
  const file = world.path('go');
  const start = manager.startProcess(notifies(['STATUS=loading', `after ${file}`, 'READY=1\\nSTATUS=serves']));
  await until(() => manager.getProcessInfo('plugin')?.status === 'loading');
  expect(manager.getState('plugin')).toBe('starting');
  fs.writeFileSync(file, '');
  await start;
  await until(() => manager.getProcessInfo('plugin').status === 'serves');
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin');
  expect(manager.getProcessInfo('plugin').status).toBeUndefined();
});

testOnLinux('readiness notify: NOTIFY_SOCKET is a file of mode 0600, gone after the stop', async () => {
  const manager = world.manager();
  world.setEnvironment({ NOTIFY_SOCKET: '/run/of-the-owner', WATCHDOG_PID: '1', WATCHDOG_USEC: '5' });
  const envVars = { NOTIFY_SOCKET: '/run/copied', WATCHDOG_PID: '2', WATCHDOG_USEC: '6' };
  await manager.startProcess(notifies(['READY=1'], { envVars }));
  const socket = variable(manager, 'NOTIFY_SOCKET');
  expect(socket.length).toBeLessThan(60);
  expect(fs.statSync(socket).mode & 0o777).toBe(0o600);
  expect(fs.statSync(path.dirname(socket)).mode & 0o777).toBe(0o700);
  expect(variable(manager, 'WATCHDOG_USEC')).toBeUndefined();
  expect(variable(manager, 'WATCHDOG_PID')).toBeUndefined();
  await manager.stopProcess('plugin');
  expect(fs.existsSync(socket)).toBe(false);
});

test('without the probe notify there is no NOTIFY_SOCKET', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  expect(variable(manager, 'NOTIFY_SOCKET')).toBeUndefined();
});

test('readiness notify: the error of the start says that READY=1 was not sent', async () => {
  const manager = world.manager();
  const error = await failure(manager.startProcess(notifies(['STATUS=never', 'READY=0', 'READY=11', 'XREADY=1'], { startupTimeout: 700 })));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expect(error.message).toContain('(not ready within 700 ms: READY=1 was not sent)');
  expectNothingLeft(world, 'plugin');
});

test('STATUS: control characters are removed, its length is limited, and an empty one removes it', async () => {
  const manager = world.manager();
  const file = world.path('go');
  const status = `STATUS=\u001b[31mred\t${'x'.repeat(2_000)}`;
  const longer = `STATUS=${'y'.repeat(5_000)}`;
  await manager.startProcess(notifies([status, longer, 'MAINPID=1\\nERRNO=2\\nFDSTORE=1\\nREADY=1', `after ${file}`, 'STATUS=']));
  // A datagram of more than 4096 bytes is dropped.
  expect(manager.getProcessInfo('plugin').status).toBe(`red ${'x'.repeat(508)}`);
  fs.writeFileSync(file, '');
  await until(() => manager.getProcessInfo('plugin').status === undefined);
});

// Of 150 starts 2 missed it on a quiet machine, and 17 on a busy one, while the order was left to chance.
test('STATUS: what comes with READY=1, or right before it, is there when the start is ready', async () => {
  const manager = world.manager();
  for (let round = 1; round <= 20; round += 1) {
    await manager.startProcess(notifies(round % 2 === 0 ? ['STATUS=ok\\nREADY=1'] : ['STATUS=ok', 'READY=1']));
    expect([round, manager.getProcessInfo('plugin').status]).toEqual([round, 'ok']);
    await manager.stopProcess('plugin');
  }
});

test('EXTEND_TIMEOUT_USEC: a start lasts longer than startupTimeout while the daemon asks for more', async () => {
  const manager = world.manager();
  const steps = ['EXTEND_TIMEOUT_USEC=20000000', `after ${world.path('go')}`, 'READY=1'];
  const began = performance.now();
  const start = manager.startProcess(notifies(steps, { startupTimeout: 300 }));
  start.catch(() => {});
  await until(() => performance.now() - began > 900);
  expect(manager.getState('plugin')).toBe('starting');
  fs.writeFileSync(world.path('go'), '');
  await start;
  await manager.stopProcess('plugin');

  const error = await failure(manager.startProcess(notifies(['EXTEND_TIMEOUT_USEC=600000'], { startupTimeout: 300 })));
  expect(error.message).toContain('(not ready within 300 ms: READY=1 was not sent (extensions by EXTEND_TIMEOUT_USEC: 1))');
});

test.each(['leader', 'tree'])(
  'EXTEND_TIMEOUT_USEC: a stop lasts longer than shutdownGracePeriod (stopSignalTo: %s)',
  async (stopSignalTo) => {
    const manager = world.manager();
    const marker = world.path('drained');
    const fixture = ['extends-its-stop.py', 600, 4, marker];
    await manager.startProcess(world.config('plugin', fixture, { readiness: NOTIFY, stopSignalTo, shutdownGracePeriod: 400 }));
    const began = performance.now();
    await manager.stopProcess('plugin');
    expect(performance.now() - began).toBeGreaterThan(1_000);
    expect(fs.existsSync(marker)).toBe(true);
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'stopped' });
  },
);

test('healthcheck.probe notify: WATCHDOG=1 passes, and no WATCHDOG=1 within an interval fails', async () => {
  const manager = world.manager();
  const events = record(manager);
  const file = world.path('hung');
  const healthcheck = { interval: 200, timeout: 50, retries: 2, probe: NOTIFY };
  await manager.startProcess(notifies(['READY=1', `ping 50 ${file}`], { healthcheck, restart: { maxAttempts: 0 } }));
  expect(variable(manager, 'WATCHDOG_USEC')).toBe('200000');
  expect(variable(manager, 'WATCHDOG_PID')).toBeUndefined();
  await until(() => events.of('health').length >= 3);
  expect(events.of('health').every(({ healthy }) => healthy)).toBe(true);
  fs.writeFileSync(file, '');
  await until(() => manager.getState('plugin') === 'error');
  await until(() => events.of('health').filter(({ healthy }) => !healthy).length === 2);
  expect(events.of('health').slice(-2)).toMatchObject([
    { healthy: false, failures: 1, error: 'no WATCHDOG=1 within 200 ms' },
    { healthy: false, failures: 2 },
  ]);
  expect(manager.getProcessInfo('plugin').lastExit.reason).toBe('unhealthy');
});

test('healthcheck.probe notify: WATCHDOG=trigger fails a check at once', async () => {
  const manager = world.manager();
  const events = record(manager);
  const file = world.path('go');
  const healthcheck = { interval: 20_000, timeout: 50, retries: 1, probe: NOTIFY };
  const config = world.config('plugin', ['notifies.py', `after ${file}`, 'WATCHDOG=trigger'], {
    readiness: { type: 'exec', command: 'true' },
    healthcheck,
    restart: { delay: 0 },
  });
  await manager.startProcess(config);
  const before = manager.getPid('plugin');
  const began = performance.now();
  fs.writeFileSync(file, '');
  await until(() => events.of('restart').length > 0);
  fs.unlinkSync(file);
  expect(performance.now() - began).toBeLessThan(10_000);
  expect(events.of('health')[0]).toMatchObject({ healthy: false, error: 'the daemon sent WATCHDOG=trigger' });
  await until(() => runsAnew(manager, 'plugin', before));
});

testOnLinux('healthcheck.probe notify: a suspended owner makes no failed check', async () => {
  const healthcheck = { interval: 150, timeout: 50, retries: 1, probe: NOTIFY };
  const configs = [notifies(['READY=1', `ping 20 ${world.path('hung')}`], { healthcheck })];
  const owner = world.owner('starts-and-ends.js', { configs });
  const leader = identify((await owner.says('ready')).plugin);
  const self = identify(owner.pid);
  for (let round = 0; round < 3; round++) {
    signal(self, 'SIGSTOP');
    const began = performance.now();
    await until(() => performance.now() - began > 400);
    signal(self, 'SIGCONT');
    const woken = performance.now();
    await until(() => performance.now() - woken > 300);
    expect(alive(leader)).toBe(true);
  }
});

testOnLinux("readiness notify: a stranger's READY=1 is dropped, with a warning that names it once", async () => {
  const warnings = [];
  const manager = world.manager({ logger: { debug() {}, info() {}, error() {}, warn: (text) => warnings.push(text) } });
  const file = world.path('socket');
  const script = `printf %s "$NOTIFY_SOCKET" >${file}.new; mv ${file}.new ${file}; exec sleep 60`;
  const start = failure(manager.startProcess(shell(script, { startupTimeout: 3_000 })));
  await until(() => fs.existsSync(file));
  const socket = fs.readFileSync(file, 'utf8');
  const child = await stranger(socket, 'READY=1\nSTATUS=lies');
  await stranger(socket, 'READY=1');
  expect((await start).code).toBe('ERR_STARTUP_TIMEOUT');
  expect(warnings.filter((text) => text.includes('READY=1'))).toEqual([expect.stringContaining(`READY=1 of process ${child.pid} (python`)]);
});

testWith('root')('readiness notify: another user can not send', async () => {
  const manager = world.manager();
  await manager.startProcess(notifies(['READY=1']));
  const socket = variable(manager, 'NOTIFY_SOCKET');
  const code = `import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"STATUS=x", ${JSON.stringify(socket)})`;
  expect(() => execFileSync(as(ANOTHER)[0], [...as(ANOTHER).slice(1), '/usr/bin/python3', '-c', code], { stdio: 'pipe' })).toThrow(
    /Permission/,
  );
});

test('readiness notify: any process of the tree may send, also one that is gone or in a session of its own', async () => {
  const manager = world.manager();
  const code = 'import os,socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])';
  for (const before of ['', 'setsid ']) {
    // Forked twice, and gone before its datagram is read, if the supervisor is slow.
    await manager.startProcess(shell(`(${before}"${PYTHON}" -S -E -c '${code}' &) ; exec sleep 60`));
    await manager.stopProcess('plugin');
  }
});

testOnLinux('notify: descriptors that come with a datagram are closed, and so BARRIER=1 is answered', async () => {
  const manager = world.manager();
  const code = `
import os, socket, array, select, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ["NOTIFY_SOCKET"])
def send(text, fds): s.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
null = os.open("/dev/null", os.O_RDONLY)
send(b"FDSTORE=1\\nFDNAME=x", [null] * 250)
r, w = os.pipe(); send(b"BARRIER=1", [w]); os.close(w)
assert select.select([r], [], [], 5)[0] and os.read(r, 1) == b"", "not answered"
send(b"READY=1", [null])
time.sleep(60)`;
  await manager.startProcess(world.config('plugin', [], { readiness: NOTIFY, command: PYTHON, args: ['-S', '-E', '-c', code] }));
  const leftovers = descriptors(process.pid).filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`) === '/dev/null' && fd > 2;
    } catch {
      return false;
    }
  });
  expect(leftovers.length).toBeLessThan(20);
});
