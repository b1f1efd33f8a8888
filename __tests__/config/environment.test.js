'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { PYTHON } = require('../helpers/python');
const { useReport } = require('../helpers/report');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { DAEMONS } = require('../helpers/world');

const world = useWorld();
const { report } = useReport(world);

/** A folder with a program that makes the file `marker` and becomes the daemon. */
function program(folder, marker, mode = 0o755) {
  const file = world.path(folder, 'plugin-daemon');
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, `#!/bin/sh\n: > '${world.path(marker)}'\nexec '${PYTHON}' "$@"\n`);
  fs.chmodSync(file, mode);
  return path.dirname(file);
}

test('environment: SOCKET_PATH, ALLY_PLUGIN_NAME and PYTHONUNBUFFERED are set for the daemon', async () => {
  world.setEnvironment({ SOCKET_PATH: '/tmp/of-somebody-else', ALLY_PLUGIN_NAME: 'of-somebody-else', PYTHONUNBUFFERED: undefined });
  const { environment } = await report(world.manager());
  expect(environment.SOCKET_PATH).toBe(world.socket('plugin'));
  expect(environment.ALLY_PLUGIN_NAME).toBe('plugin');
  expect(environment.PYTHONUNBUFFERED).toBe('1');
});

test('environment: is process.env as this realm has it, not the environ of the C library', async () => {
  world.setEnvironment({ TEST_ADDED: 'by the test', TEST_EMPTY: '', TEST_LINES: 'a\nb=c', TEST_LETTERS: 'Größe 日本 🦀', HOME: undefined });
  const { environment } = await report(world.manager());
  expect(environment).toMatchObject({ TEST_ADDED: 'by the test', TEST_EMPTY: '', TEST_LINES: 'a\nb=c', TEST_LETTERS: 'Größe 日本 🦀' });
  expect(environment.PATH).toBe(process.env.PATH);
  expect(environment).not.toHaveProperty('HOME');
  const { SOCKET_PATH, ALLY_PLUGIN_NAME, ALLY_DAEMON_ID, PYTHONUNBUFFERED, LC_CTYPE, ...rest } = environment;
  // Python may add LC_CTYPE itself.
  const { SOCKET_PATH: _, ALLY_PLUGIN_NAME: __, PYTHONUNBUFFERED: ___, LC_CTYPE: ____, ...ours } = { ...process.env };
  expect(rest).toEqual(ours);
});

test('environment: is that of the moment of the call', async () => {
  world.setEnvironment({ TEST_MOMENT: 'before' });
  const manager = world.manager();
  const promise = report(manager);
  process.env.TEST_MOMENT = 'after';
  expect((await promise).environment.TEST_MOMENT).toBe('before');
});

test('environment: LISTEN_*, NOTIFY_SOCKET and WATCHDOG_* of the owner are not inherited', async () => {
  world.setEnvironment({
    LISTEN_FDS: '1',
    LISTEN_PID: String(process.pid),
    LISTEN_FDNAMES: 'web',
    LISTEN_PIDFDID: '7',
    NOTIFY_SOCKET: '/run/notify',
    WATCHDOG_USEC: '1000',
    WATCHDOG_PID: '1',
    LISTENER: 'stays',
    NOTIFY_SOCKETS: 'stays',
  });
  const { environment } = await report(world.manager());
  expect(Object.keys(environment).filter((name) => /^(LISTEN_|NOTIFY_SOCKET$|WATCHDOG_)/.test(name))).toEqual([]);
  expect(environment).toMatchObject({ LISTENER: 'stays', NOTIFY_SOCKETS: 'stays' });
});

test('environment: variables that describe the owner are not inherited, also where inheritEnv names them', async () => {
  const names = [
    'LISTEN_FDS',
    'NOTIFY_SOCKET',
    'WATCHDOG_USEC',
    'JOURNAL_STREAM',
    'INVOCATION_ID',
    'MAINPID',
    'SYSTEMD_EXEC_PID',
    'MEMORY_PRESSURE_WATCH',
    'MEMORY_PRESSURE_WRITE',
    'ALLY_LISTEN_FD',
  ];
  world.setEnvironment({ ...Object.fromEntries(names.map((name) => [name, '1'])), ALLY_DAEMON_ID: 'of-the-owner', TEST_OWN: 'stays' });
  for (const inheritEnv of [true, ['TEST_OWN', 'ALLY_DAEMON_ID', ...names]]) {
    const manager = world.manager();
    const { environment } = await report(manager, { inheritEnv });
    expect(Object.keys(environment).filter((name) => names.includes(name))).toEqual([]);
    expect(environment.ALLY_DAEMON_ID).toMatch(/^[0-9a-f]{32}$/);
    expect(environment.TEST_OWN).toBe('stays');
    await manager.stopAllProcesses();
  }
});

test('ALLY_DAEMON_ID: differs from attempt to attempt, stands in daemon.id, and is not set by envVars', async () => {
  const manager = world.manager();
  const given = 'f'.repeat(32);
  world.setEnvironment({ ALLY_DAEMON_ID: given });
  const seen = [];
  const attempt = async (starts) => {
    await starts();
    const { environment: its } = JSON.parse(fs.readFileSync(world.path('report'), 'utf8'));
    expect(its.ALLY_DAEMON_ID).toMatch(/^[0-9a-f]{32}$/);
    const record = fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8');
    expect(record.split('\n')).toContain(`token ${its.ALLY_DAEMON_ID}`);
    seen.push(its.ALLY_DAEMON_ID);
  };
  const config = world.config('plugin', ['reports-its-process.py', world.path('report')], {
    envVars: { ALLY_DAEMON_ID: given, TEST_OWN: 'own' },
  });
  await attempt(() => manager.startProcess(config));
  await attempt(() => manager.restartProcess('plugin'));
  const before = manager.getPid('plugin');
  process.kill(before, 'SIGKILL');
  await attempt(() => until(() => runsAnew(manager, 'plugin', before)));
  expect(new Set([...seen, given]).size).toBe(4);
});

test.each([
  ['false', false, []],
  ['a list', ['TEST_ONE', 'TEST_ABSENT'], ['TEST_ONE']],
])('inheritEnv: %s leaves the short list and the named variables', async (_, inheritEnv, named) => {
  world.setEnvironment({ TEST_ONE: '1', TEST_TWO: '2', LC_TEST: 'C', LANG: 'C', TZ: 'UTC', NODE_OPTIONS_TEST: 'x' });
  const manager = world.manager();
  const { environment } = await report(manager, { inheritEnv, envVars: { TEST_OWN: 'own' } });
  const basic = ['HOME', 'LOGNAME', 'PATH', 'SHELL', 'TERM', 'USER', 'LANG', 'TZ', 'TMPDIR', 'XDG_RUNTIME_DIR'];
  const short = Object.keys(process.env).filter((name) => basic.includes(name) || name.startsWith('LC_'));
  const ours = ['SOCKET_PATH', 'ALLY_PLUGIN_NAME', 'ALLY_DAEMON_ID', 'PYTHONUNBUFFERED', 'TEST_OWN'];
  // Python may add LC_CTYPE.
  const names = Object.keys(environment).filter((name) => name !== 'LC_CTYPE');
  expect(names.sort()).toEqual([...short.filter((name) => name !== 'LC_CTYPE'), ...ours, ...named].sort());
  for (const name of short) expect(environment[name]).toBe(process.env[name]);
  expect(manager.getProcessInfo('plugin').config.inheritEnv).toEqual(inheritEnv);
});

test('envVars: win over inherited variables and over those that the manager sets', async () => {
  world.setEnvironment({ TEST_BOTH: 'inherited' });
  const elsewhere = world.socket('plugin');
  const envVars = {
    TEST_BOTH: 'configured',
    TEST_ONE: 'one',
    PYTHONUNBUFFERED: '0',
    ALLY_PLUGIN_NAME: 'renamed',
    SOCKET_PATH: '/nowhere',
    NOTIFY_SOCKET: '/mine',
    LISTEN_FDS: '2',
    WATCHDOG_USEC: '5',
  };
  const { environment } = await report(world.manager(), { envVars }, ['--at', elsewhere]);
  expect(environment).toMatchObject(envVars);
});

test('envVars: undefined removes a variable, inherited or not', async () => {
  world.setEnvironment({ TEST_INHERITED: 'x' });
  const { environment } = await report(world.manager(), {
    envVars: { TEST_INHERITED: undefined, TEST_NEVER: undefined, PYTHONUNBUFFERED: undefined, TEST_EMPTY: '' },
  });
  for (const name of ['TEST_INHERITED', 'TEST_NEVER', 'PYTHONUNBUFFERED']) expect(environment).not.toHaveProperty(name);
  expect(environment.TEST_EMPTY).toBe('');
});

test('envVars: may be named __proto__ and constructor', async () => {
  const envVars = JSON.parse('{"__proto__": "a", "constructor": "b"}');
  const { environment } = await report(world.manager(), { envVars });
  expect(Object.entries(environment)).toEqual(
    expect.arrayContaining([
      ['__proto__', 'a'],
      ['constructor', 'b'],
    ]),
  );
});

test('envVars and process.env: a restart has those of the start', async () => {
  world.setEnvironment({ TEST_MOMENT: 'at the start' });
  const manager = world.manager();
  const first = await report(manager, { restart: { delay: 0 }, envVars: { TEST_OWN: 'own' } });
  process.env.TEST_MOMENT = 'at the restart';
  process.kill(first.pid, 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', first.pid));

  const second = JSON.parse(fs.readFileSync(world.path('report'), 'utf8'));
  expect(second.pid).toBe(manager.getPid('plugin'));
  // Each attempt has its own identity.
  expect(second.environment).toEqual({ ...first.environment, ALLY_DAEMON_ID: expect.not.stringMatching(first.environment.ALLY_DAEMON_ID) });
  expect(second.environment).toMatchObject({ TEST_MOMENT: 'at the start', TEST_OWN: 'own' });
});

test('PYTHONUNBUFFERED: the output of the daemon of the specification arrives at once', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', [], { args: [path.join(DAEMONS, 'specification.py')] }));
  await until(() => manager.getOutput('plugin').includes(`Socket server listening on ${world.socket('plugin')}`));
});

test('command: a bare name is looked up in the PATH of envVars', async () => {
  const first = program('first', 'ran-first');
  const second = program('second', 'ran-second');
  world.setEnvironment({ PATH: `${second}:${process.env.PATH}` });
  const PATH = `${first}:${process.env.PATH}`;
  await world.manager().startProcess(world.config('plugin', ['serves.py'], { command: 'plugin-daemon', envVars: { PATH } }));
  expect(fs.existsSync(world.path('ran-first'))).toBe(true);
  expect(fs.existsSync(world.path('ran-second'))).toBe(false);
});

test('command: a bare name is looked up in the PATH of process.env', async () => {
  world.setEnvironment({ PATH: `${program('first', 'ran-first')}:${process.env.PATH}` });
  await world.manager().startProcess(world.config('plugin', ['serves.py'], { command: 'plugin-daemon' }));
  expect(fs.existsSync(world.path('ran-first'))).toBe(true);
});

test('command: a file in PATH that is not executable is passed over', async () => {
  const first = program('first', 'ran-first', 0o644);
  const second = program('second', 'ran-second');
  world.setEnvironment({ PATH: `${first}:${world.path('missing')}:${second}:${process.env.PATH}` });
  await world.manager().startProcess(world.config('plugin', ['serves.py'], { command: 'plugin-daemon' }));
  expect(fs.existsSync(world.path('ran-second'))).toBe(true);
});
