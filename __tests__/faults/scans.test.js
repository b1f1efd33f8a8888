'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { ANOTHER, SOMEBODY, as, testOnLinux, testWith } = require('../helpers/needs');
const { alive, ancestors, children, descendants, identify, signal, stat, threadName, uid } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useCommandedTree } = require('../ownership/commanded-tree');

const world = useWorld();
const { commandedTree } = useCommandedTree(world);
const { commandedOwner, config } = useCommandedOwner(world);

const firstThreadExited = (pid) => until(() => stat(pid).state === 'Z');

function withReusedPid(scenario, order) {
  const driver = path.join(__dirname, '..', 'fixtures', 'owners', 'reuses-pids.js');
  const words = [
    '-pf',
    '--mount-proc',
    '--kill-child',
    process.execPath,
    driver,
    scenario,
    JSON.stringify({ dir: world.dir, envsDir: world.envsDir, ...order }),
  ];
  return JSON.parse(execFileSync('unshare', words, { encoding: 'utf8', env: { ...process.env, TEST_WORLD: world.dir } }));
}

const once = { restart: { maxAttempts: 0 } };

/**
 * An owner under a /proc that hides the processes of other users. `beside`: a command that root runs there. PID 1 of the
 * namespace is a shell, which reaps orphans.
 */
const hidden = (order, beside = 'true') => {
  fs.chmodSync(world.dir, 0o777);
  fs.chmodSync(world.pluginPath, 0o777);
  const hide = `mount -t proc -o hidepid=2 proc /proc && { env -u NODE_CHANNEL_FD ${beside} & "$@"; }`;
  const owner = commandedOwner(order, { before: ['unshare', '-mpf', '/bin/sh', '-c', hide, 'sh', ...as(SOMEBODY)] });
  // --kill-child does not work for another user's process.
  world.finally(() => owner.child.disconnect());
  return owner;
};

testWith('strace')('scan: a failed one of the guardian does not spare what a killed keeper left', async () => {
  const { keeper, guardian, fled, owner } = await commandedTree(['fled']);
  const fault = await inject(world, guardian.pid, ['openat:error=ENFILE:when=1'], { file: `/proc/${guardian.pid}/task` });
  signal(keeper, 'SIGKILL');
  await until(() => !alive(fled));
  await fault.stop();
  expect(fault.injected()).toBe(1);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
});

testWith('strace')('scan: a failed one of the keeper does not count as an empty group', async () => {
  const { keeper, stubborn, owner } = await commandedTree(['stubborn'], { killMode: 'group' });
  // A scan that finds a process reads the list twice. The first scan is for SIGTERM; at the next one the leader is gone.
  const fault = await inject(world, keeper.pid, ['openat:error=ENFILE:when=3'], { file: `/proc/${keeper.pid}/task` });
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect(alive(stubborn)).toBe(false);
  await fault.stop();
  expect(fault.injected()).toBe(1);
});

testWith('strace')('scan: a failed one of the keeper does not cost the tree its grace period', async () => {
  const { keeper, leader, marker, owner } = await commandedTree(['willing'], { shutdownGracePeriod: 10_000 });
  const fault = await inject(world, keeper.pid, ['openat:error=ENFILE:when=1'], { file: `/proc/${keeper.pid}/task` });
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect(fs.existsSync(`${marker}.willing`)).toBe(true);
  expect(alive(leader)).toBe(false);
  await fault.stop();
  expect(fault.injected()).toBe(1);
});

testWith('strace', 'Linux 6.9')("scan: failing for good, the keeper still ends the leader's group", async () => {
  const { keeper, stubborn, leader, owner } = await commandedTree(['stubborn']);
  const fault = await inject(world, keeper.pid, ['openat:error=ENFILE'], { file: `/proc/${keeper.pid}/task` });
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect([leader, stubborn].filter(alive)).toEqual([]);
  await fault.stop();
  expect(fault.injected()).toBeGreaterThan(0);
});

testOnLinux('scan: a daemon whose first thread has exited runs, has its record and is stopped', async () => {
  const manager = world.manager();
  await manager.startProcess(config('plugin', ['first-thread-exits.py']));
  const daemon = identify(manager.getPid('plugin'));
  await firstThreadExited(daemon.pid);
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${daemon.pid}\n`);
  expect(manager.isRunning('plugin')).toBe(true);
  await manager.stopProcess('plugin');
  expect(alive(daemon)).toBe(false);
});

testOnLinux("scan: a daemon whose first thread has exited is gone after its owner's SIGKILL", async () => {
  const owner = commandedOwner();
  expect(await owner.asks('startProcess', config('plugin', ['first-thread-exits.py']))).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  await firstThreadExited(daemon.pid);
  owner.child.kill('SIGKILL');
  await owner.exited;
  await until(() => !alive(daemon));
});

testOnLinux('scan: a process whose first thread has exited belongs to its group', async () => {
  const marker = world.path('member');
  const manager = world.manager();
  await manager.startProcess(config('plugin', ['first-thread-exits.py', marker], { killMode: 'group' }));
  const member = await world.process(marker);
  await firstThreadExited(member.pid);
  await manager.stopProcess('plugin');
  expect(alive(member)).toBe(false);
});

testWith('namespaces of its own')('scan: a reused pid is not taken for the leader whose keeper was killed', () => {
  expect(withReusedPid('leader', { config: config('plugin', ['serves.py'], once) })).toEqual({ harmed: false });
});

testWith('namespaces of its own', 'ptrace')('scan: a reused pid is not taken for the keeper that was swept for before', () => {
  const marker = world.path('family');
  const other = config('other', ['leads-a-tree.py', marker, 'fled'], { ...once, socketPath: world.path('o') });
  expect(withReusedPid('keeper', { config: config('plugin', ['serves.py'], once), other, marker })).toEqual({
    stop: 'ERR_STOP_FAILED',
    fledLives: true,
  });
});

testWith(
  'namespaces of its own',
  'another user that can load the package',
  'perl',
)('hidepid=2: a stop ends a daemon that /proc hides', async () => {
  const owner = hidden();
  // prctl(PR_SET_DUMPABLE, 0), once its pid file exists.
  const prctl = process.arch === 'arm64' ? 167 : 157;
  const script = `select(undef, undef, undef, 0.005) until -e $ENV{GO}; syscall(${prctl}, 4, 0); open(DONE, ">", "$ENV{GO}.done"); close(DONE); sleep 60 while 1`;
  const go = world.path('go');
  const start = owner.asks(
    'startProcess',
    config('plugin', [], { command: 'perl', args: ['-e', script], envVars: { GO: go }, socketPath: world.path('s') }),
  );
  const pid = await until(async () => (await owner.asks('getPid', 'plugin')).value);
  fs.writeFileSync(go, '');
  await until(() => fs.existsSync(`${go}.done`));
  expect((await owner.asks('list', '/proc')).value).not.toContain(String(pid));
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  expect((await owner.asks('getProcessInfo', 'plugin')).value.lastExit).toMatchObject({ pid, signal: 'SIGTERM' });
  expect((await start).error.code).toBe('ERR_STOPPED');
});

testWith('namespaces of its own', 'another user that can load the package')(
  'hidepid=2: ERR_IO for a daemon that could not be identified later',
  async () => {
    const owner = hidden();
    // A process whose program its user cannot read is not dumpable.
    const program = world.path('program');
    fs.copyFileSync('/bin/sh', program);
    fs.chmodSync(program, 0o711);
    const { error } = await owner.asks(
      'startProcess',
      config('plugin', [], { command: program, args: ['-c', 'while :; do sleep 60; done'], socketPath: world.path('s') }),
    );
    expect(error).toEqual(errorWith('ERR_IO', '/proc: EACCES'));
    expect(descendants(owner.pid).filter(({ pid }) => /sleep|program/.test(threadName(pid)))).toEqual([]);
  },
);

testWith('namespaces of its own', 'another user that can load the package')(
  'hidepid=2: ERR_SOCKET_IN_USE has the pid of a listener that /proc hides',
  async () => {
    const socketPath = world.path('s');
    const listen = `process.umask(0); require("net").createServer(() => {}).listen(${JSON.stringify(socketPath)}); setTimeout(() => process.exit(), 60_000)`;
    const owner = hidden({}, `'${process.execPath}' -e '${listen}'`);
    await until(() => fs.existsSync(socketPath));
    const { error } = await owner.asks('startProcess', config('plugin', [], { command: '/bin/true', socketPath }));
    expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: expect.any(Number) });
    expect((await owner.asks('list', '/proc')).value).not.toContain(String(error.pid));
    expect(error.message).toContain(`in use by process ${error.pid}`);
  },
);

testWith('namespaces of its own', 'another user that can load the package').each(['is reaped', 'stays a zombie'])(
  'hidepid=2: what guardian and keeper left is not gone while /proc hides a process of it (the leader %s)',
  async (end) => {
    const owner = hidden();
    const change = world.path('setpriv');
    fs.copyFileSync('/usr/bin/setpriv', change);
    fs.chmodSync(change, 0o4755);
    const [, ...words] = as(ANOTHER);
    const script = `'${change}' ${words.join(' ')} sleep 60 & exec sleep 60`;
    const start = owner.asks(
      'startProcess',
      config('plugin', [], { command: '/bin/sh', args: ['-c', script], socketPath: world.path('s'), ...once }),
    );
    const changed = await until(() => descendants(owner.pid).find(({ pid }) => uid(pid) === Number(ANOTHER)));
    world.killAtEnd(changed);
    const [leader, keeper, guardian] = ancestors(changed.pid);
    const [init] = children(owner.child.pid);
    if (end === 'stays a zombie') signal(init, 'SIGSTOP');
    for (const killed of [guardian, keeper]) signal(killed, 'SIGKILL');
    await until(() => !alive(leader));
    const { error } = await start;
    expect(alive(changed)).toBe(true);
    expect(error.code).toBe('ERR_INTERNAL');
    expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({ state: 'error' });
    expect((await owner.asks('stopProcess', 'plugin')).error).toMatchObject({ code: 'ERR_STOP_FAILED' });
    if (end === 'stays a zombie') expect(stat(leader.pid).state).toBe('Z');

    signal(changed, 'SIGKILL');
    // /proc hides its zombie too.
    signal(init, 'SIGCONT');
    await until(async () => (await owner.asks('stopProcess', 'plugin')).error === undefined);
  },
);

testWith('a pid namespace')('ERR_IO: names /proc of another pid namespace, and no process is made', async () => {
  // Without --mount-proc, /proc/1 is another process than PID 1 of the namespace.
  const owner = commandedOwner({}, { before: ['unshare', '-pf', '--kill-child'] });
  const counter = world.path('starts');
  const { error } = await owner.asks(
    'startProcess',
    config('plugin', [], { command: '/bin/sh', args: ['-c', ': > "$0"; sleep 60', counter] }),
  );
  expect(error).toEqual(errorWith('ERR_IO', '/proc: ', 'namespace'));
  // unshare itself and the owner.
  expect(descendants(owner.pid)).toHaveLength(1);
  expect(fs.existsSync(counter)).toBe(false);
  const { value } = await owner.asks('getProcessInfo', 'plugin');
  expect(value).toMatchObject({ state: 'error' });
  expect(value.lastExit).toBeUndefined();
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
});
