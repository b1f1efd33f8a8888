'use strict';

const fs = require('node:fs');
const { as, testWith } = require('../helpers/needs');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { folder, shared, session, host, hostGone } = useSessions(world);

testWith('a network namespace')('a session in another network namespace is ERR_OWNED_ELSEWHERE, which names the difference', async () => {
  await world.manager().startProcess(shared());
  const other = session({}, { before: ['unshare', '-n'] });
  const { error } = await other.asks('startProcess', shared());
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pluginName: 'plugin', pid: host().pid });
  expect(error.message).toMatch(/another sandbox: network namespace$/);
});

testWith('root')('a session with no_new_privs or other groups is refused', async () => {
  await world.manager().startProcess(shared());
  const careful = session({}, { before: ['setpriv', '--no-new-privs'] });
  expect((await careful.asks('startProcess', shared())).error.message).toMatch(/: no_new_privs$/);
  const grouped = session({}, { before: ['setpriv', '--groups', '54321'] });
  expect((await grouped.asks('startProcess', shared())).error.message).toMatch(/: supplementary groups$/);
});

testWith('root')('nothing is sent to a socket that another user serves', async () => {
  fs.mkdirSync(folder(), { recursive: true, mode: 0o700 });
  const marker = world.path('read');
  const code = [
    'import os, socket, sys',
    'server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); os.setuid(54321); server.listen()',
    'print(1, flush=True)',
    'connection = server.accept()[0]; connection.settimeout(5)',
    'open(sys.argv[2], "w").write(str(len(connection.recv(100))))',
  ].join('\n');
  fs.writeFileSync(marker, '');
  fs.chmodSync(marker, 0o666);
  fs.chmodSync(world.dir, 0o777);
  const server = require('node:child_process').spawn('python3', ['-c', code, `${folder()}/host.sock`, marker]);
  world.finally(() => server.kill('SIGKILL'));
  await new Promise((resolve) => server.stdout.once('data', resolve));
  const error = await failure(world.manager().startProcess(shared()));
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE' });
  expect(error.message).toContain(`uid 54321 answers at ${folder()}`);
  await until(() => fs.readFileSync(marker, 'utf8') === '0');
});

testWith('another user that can load the package', '/usr/bin/python3')('another user has a host of its own', async () => {
  fs.mkdirSync(world.envsDir, { mode: 0o777 });
  fs.chmodSync(world.envsDir, 0o777);
  fs.chmodSync(world.dir, 0o777);
  await world.manager().startProcess(shared());
  const own = host();
  const other = session({}, { before: as('54321') });
  expect(await other.asks('startProcess', shared('other', ['serves.py'], { command: '/usr/bin/python3' }))).toEqual({});
  expect(
    fs
      .readdirSync(world.envsDir)
      .filter((name) => name.startsWith('.ally-host'))
      .sort(),
  ).toEqual(['.ally-host-0', '.ally-host-54321']);
  expect(host()).toEqual(own);
});

test('a plugin name that begins with .ally- is refused', async () => {
  const error = await failure(world.manager().startProcess(shared('.ally-host-0')));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG' });
});

test('the files of the host are private, and nothing of them is left but the lock', async () => {
  const manager = world.manager();
  await manager.startProcess(shared());
  const mode = (name) => fs.statSync(`${folder()}/${name}`).mode & 0o777;
  expect([mode('.'), mode('host.lock'), mode('host.sock')]).toEqual([0o700, 0o600, 0o600]);
  await manager.stopAllProcesses();
  await hostGone();
  expect(fs.readdirSync(folder())).toEqual(['host.lock']);
});

test('an exclusive start of a shared name says by how many sessions it is shared, and how long it lingers', async () => {
  const [first, second] = [world.manager(), world.manager()];
  const lingering = shared('plugin', ['serves.py'], { shared: { linger: 3_000 } });
  for (const manager of [first, second]) await manager.startProcess(lingering);
  const exclusive = world.manager();
  const config = shared('plugin', ['serves.py'], { shared: false });
  const refused = await failure(exclusive.startProcess(config));
  expect(refused).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: host().pid });
  expect(refused.message).toContain('shared by 2 sessions');
  await Promise.all([first.stopAllProcesses(), second.stopAllProcesses()]);
  const lingers = await failure(exclusive.startProcess(config));
  expect(lingers).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: host().pid });
  expect(lingers.message).toMatch(/lingers, [123] s left/);
  await hostGone(6_000);
  await exclusive.startProcess(config);
});
