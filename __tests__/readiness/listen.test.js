'use strict';

// The probe `listen`: by the word of the kernel, without a connection. Where the kernel can't tell, a connection decides.

const fs = require('node:fs');
const net = require('node:net');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { SOMEBODY, as, testOnLinux, testWith } = require('../helpers/needs');
const { alive } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { PYTHON } = require('../helpers/python');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, supervisorThread } = useCommandedOwner(world);

/** What the daemon answers to `text`, or to a connection on which nothing is sent. */
function answer(socketPath, text) {
  return new Promise((resolve, reject) => {
    const client = net.connect(socketPath);
    let received = '';
    client.setEncoding('utf8').on('data', (data) => (received += data));
    client.on('end', () => resolve(received)).on('error', reject);
    if (text !== undefined) client.end(text);
  });
}

const READINESS = [
  ['the default readiness', {}],
  ["readiness 'listen'", { readiness: { type: 'listen' } }],
];

testOnLinux.each(READINESS)('%s: a daemon that dies of an empty connection runs and answers', async (_, changes) => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['parses-what-it-reads.py'], changes));
  const pid = manager.getPid('plugin');
  // Connections are answered in their order, so an earlier one of the manager would have killed it.
  for (const text of ['7', '8']) expect(await answer(world.socket('plugin'), text)).toBe(text);
  expect(manager.getPid('plugin')).toBe(pid);
  expect(manager.getState('plugin')).toBe('running');
});

testOnLinux.each(READINESS)('%s: a daemon that serves one connection serves the first client', async (_, changes) => {
  const manager = world.manager();
  const restart = { maxAttempts: 0 };
  await manager.startProcess(world.config('plugin', ['serves-one-connection.py'], { ...changes, restart }));
  expect(await answer(world.socket('plugin'))).toBe('served');
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastError).toBe('the process exited with code 0');
});

const LISTENERS = [
  ['the leader', 'serves.py'],
  ['a child', 'waits-for-a-listening-child.py'],
  ['a process whose launcher listened and exited', 'child-binds-for-it.py'],
  ['a process that has bound the target of a symlink', 'serves-through-a-link.py'],
  ['a SOCK_SEQPACKET socket', 'listens-as.py', 'seqpacket'],
];

testWith('strace').each(LISTENERS)('readiness listen: nothing connects to %s', async (_, ...fixture) => {
  const owner = commandedOwner();
  await expectStartAndStop(owner);
  const trace = await inject(world, await supervisorThread(owner), ['connect:delay_enter=1']);
  expect(await owner.asks('startProcess', config('plugin', fixture))).toEqual({});
  await trace.stop();
  expect(trace.calls()).toEqual([]);
});

testOnLinux('readiness listen: a datagram socket never listens, and the timeout says so', async () => {
  const start = world.manager().startProcess(world.config('plugin', ['listens-as.py', 'datagram'], { startupTimeout: 500 }));
  const error = await failure(start);
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expect(error.message).toContain(`a datagram socket is bound at ${world.socket('plugin')}`);
});

test.each(['listen', 'socket', 'accept'])("readiness %s: another program's listener is ERR_SOCKET_IN_USE, and lives on", async (type) => {
  const manager = world.manager();
  const elsewhere = world.path('elsewhere.sock');
  const go = world.path('go');
  const start = manager.startProcess(world.config('plugin', ['listens-late.py', go], { readiness: { type } }));
  const refused = failure(start);
  await until(() => manager.getOutput('plugin').includes('bound'));
  const stranger = world.program(['serves.py'], { socketPath: elsewhere });
  await until(() => fs.existsSync(elsewhere));
  fs.renameSync(elsewhere, world.socket('plugin'));
  expect(await refused).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: stranger.pid });
  expect(alive(stranger)).toBe(true);
});

describe('readiness listen: a connection decides', () => {
  async function expectConnection(owner, changes, faults = []) {
    const trace = await inject(world, await supervisorThread(owner), ['connect:delay_enter=1', ...faults]);
    expect(await owner.asks('startProcess', config('plugin', ['serves.py'], changes))).toEqual({});
    await trace.stop();
    const connections = trace.calls().filter((line) => line.startsWith('connect') && line.includes('= 0'));
    expect(connections.length).toBeGreaterThan(0);
    if (faults.length > 0) expect(trace.injected()).toBeGreaterThan(0);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  }

  testWith('strace').each([
    ['netlink is refused', 'EPERM'],
    ['the kernel has no unix_diag', 'ENOENT'],
  ])('where %s', async (_, errno) => {
    const owner = commandedOwner();
    // While another daemon runs, the guardian lives. The first sendto(2) is then the order, and netlink uses all others.
    expect(await owner.asks('startProcess', config('other'))).toEqual({});
    await expectConnection(owner, {}, [`sendto:error=${errno}:when=2+`]);
  });

  testWith('strace', 'root')('where the daemon listens in another network namespace', async () => {
    const owner = commandedOwner();
    await expectStartAndStop(owner);
    await expectConnection(owner, { command: 'unshare', args: ['-n', PYTHON, ...script('serves.py')] });
  });

  testWith(
    'strace',
    'another user that can load the package',
    '/usr/bin/python3',
  )('where the descriptors of the daemon cannot be read', async () => {
    for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
    const owner = commandedOwner({}, { before: as(SOMEBODY) });
    const hidden = { command: '/usr/bin/python3', args: script('is-not-dumpable.py'), socketPath: world.path('s') };
    // The supervisor's thread exists after the first start.
    const { error } = await owner.asks('startProcess', config('plugin', [], { command: '/bin/true' }));
    expect(error).toEqual(errorWith('ERR_STARTUP_EXIT'));
    await expectConnection(owner, hidden);
  });
});
