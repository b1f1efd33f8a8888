'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { DAEMONS, PYTHON, script, useWorld } = require('./helpers/world');
const { testOnLinux } = require('./helpers/processes');
const { until } = require('./helpers/until');

const world = useWorld();

/** Starts a daemon that reports what it was given, and returns the report. */
async function report(manager, changes = {}, fixture = []) {
  const file = world.path('report');
  const config = world.config('plugin', ['reports.py', file, ...fixture], changes);
  await manager.startProcess(config);
  return JSON.parse(fs.readFileSync(file, 'utf8'));
}

/** Sets variables of this process for the length of a test. */
function setEnvironment(variables) {
  for (const [name, value] of Object.entries(variables)) {
    const before = process.env[name];
    world.finally(() => (before === undefined ? delete process.env[name] : (process.env[name] = before)));
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}

describe('variables', () => {
  test('tell the daemon its socket and its name, and Python not to hold back its output', async () => {
    setEnvironment({ SOCKET_PATH: '/tmp/of-somebody-else', ALLY_PLUGIN_NAME: 'of-somebody-else', PYTHONUNBUFFERED: undefined });
    const { environment } = await report(world.manager());
    expect(environment.SOCKET_PATH).toBe(world.socket('plugin'));
    expect(environment.ALLY_PLUGIN_NAME).toBe('plugin');
    expect(environment.PYTHONUNBUFFERED).toBe('1');
  });

  test('are those of process.env, and jest gives each file a copy that the real environ never sees', async () => {
    setEnvironment({ TEST_ADDED: 'by the test', TEST_EMPTY: '', TEST_LINES: 'a\nb=c', TEST_LETTERS: 'Größe 日本 🦀', HOME: undefined });
    const { environment } = await report(world.manager());
    expect(environment).toMatchObject({ TEST_ADDED: 'by the test', TEST_EMPTY: '', TEST_LINES: 'a\nb=c', TEST_LETTERS: 'Größe 日本 🦀' });
    expect(environment.PATH).toBe(process.env.PATH);
    expect(environment).not.toHaveProperty('HOME');
    const { SOCKET_PATH, ALLY_PLUGIN_NAME, PYTHONUNBUFFERED, LC_CTYPE, ...rest } = environment;
    // Python may add LC_CTYPE itself.
    const { SOCKET_PATH: _, ALLY_PLUGIN_NAME: __, PYTHONUNBUFFERED: ___, LC_CTYPE: ____, ...ours } = { ...process.env };
    expect(rest).toEqual(ours);
  });

  test('are those of the moment of the call', async () => {
    setEnvironment({ TEST_MOMENT: 'before' });
    const manager = world.manager();
    const promise = report(manager);
    process.env.TEST_MOMENT = 'after';
    expect((await promise).environment.TEST_MOMENT).toBe('before');
  });

  test('leave out what the service manager meant for the owner', async () => {
    setEnvironment({
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

  test('of the configuration win', async () => {
    setEnvironment({ TEST_BOTH: 'inherited' });
    const elsewhere = world.socket('plugin');
    const { environment } = await report(
      world.manager(),
      {
        envVars: {
          TEST_BOTH: 'configured',
          TEST_ONE: 'one',
          PYTHONUNBUFFERED: '0',
          ALLY_PLUGIN_NAME: 'renamed',
          SOCKET_PATH: '/nowhere',
          NOTIFY_SOCKET: '/mine',
          LISTEN_FDS: '2',
          WATCHDOG_USEC: '5',
        },
      },
      ['--at', elsewhere],
    );
    expect(environment).toMatchObject({
      TEST_BOTH: 'configured',
      TEST_ONE: 'one',
      PYTHONUNBUFFERED: '0',
      ALLY_PLUGIN_NAME: 'renamed',
      SOCKET_PATH: '/nowhere',
      NOTIFY_SOCKET: '/mine',
      LISTEN_FDS: '2',
      WATCHDOG_USEC: '5',
    });
  });

  test('that are undefined are left out, inherited or not', async () => {
    setEnvironment({ TEST_INHERITED: 'x' });
    const { environment } = await report(world.manager(), {
      envVars: { TEST_INHERITED: undefined, TEST_NEVER: undefined, PYTHONUNBUFFERED: undefined, TEST_EMPTY: '' },
    });
    for (const name of ['TEST_INHERITED', 'TEST_NEVER', 'PYTHONUNBUFFERED']) expect(environment).not.toHaveProperty(name);
    expect(environment.TEST_EMPTY).toBe('');
  });

  test('may have names that belong to every object', async () => {
    const envVars = JSON.parse('{"__proto__": "a", "constructor": "b"}');
    const { environment } = await report(world.manager(), { envVars });
    expect(Object.entries(environment)).toEqual(
      expect.arrayContaining([
        ['__proto__', 'a'],
        ['constructor', 'b'],
      ]),
    );
  });

  test('stay those of the start when the daemon is restarted', async () => {
    setEnvironment({ TEST_MOMENT: 'at the start' });
    const manager = world.manager();
    const first = await report(manager, { restart: { delay: 0 }, envVars: { TEST_OWN: 'own' } });
    process.env.TEST_MOMENT = 'at the restart';
    process.kill(first.pid, 'SIGKILL');
    await until(() => manager.getPid('plugin') !== first.pid && manager.isRunning('plugin'));

    const second = JSON.parse(fs.readFileSync(world.path('report'), 'utf8'));
    expect(second.pid).toBe(manager.getPid('plugin'));
    expect(second.environment).toEqual(first.environment);
    expect(second.environment).toMatchObject({ TEST_MOMENT: 'at the start', TEST_OWN: 'own' });
  });

  test('unbuffer what the daemon of the specification prints', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', [], { args: [path.join(DAEMONS, 'specification.py')] }));
    await until(() => manager.getOutput('plugin').includes(`Socket server listening on ${world.socket('plugin')}`));
  });
});

describe('a bare command', () => {
  /** A folder with a program that becomes a willing daemon and leaves `marker`. */
  function program(folder, marker, mode = 0o755) {
    const file = world.path(folder, 'plugin-daemon');
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, `#!/bin/sh\n: > '${world.path(marker)}'\nexec '${PYTHON}' "$@"\n`);
    fs.chmodSync(file, mode);
    return path.dirname(file);
  }

  test("is looked up in the configuration's PATH", async () => {
    const first = program('first', 'ran-first');
    const second = program('second', 'ran-second');
    setEnvironment({ PATH: `${second}:${process.env.PATH}` });
    const PATH = `${first}:${process.env.PATH}`;
    await world.manager().startProcess(world.config('plugin', ['willing.py'], { command: 'plugin-daemon', envVars: { PATH } }));
    expect(fs.existsSync(world.path('ran-first'))).toBe(true);
    expect(fs.existsSync(world.path('ran-second'))).toBe(false);
  });

  test("is looked up in process.env's PATH, as this test changed it", async () => {
    setEnvironment({ PATH: `${program('first', 'ran-first')}:${process.env.PATH}` });
    await world.manager().startProcess(world.config('plugin', ['willing.py'], { command: 'plugin-daemon' }));
    expect(fs.existsSync(world.path('ran-first'))).toBe(true);
  });

  test('that cannot be run is passed over', async () => {
    const first = program('first', 'ran-first', 0o644);
    const second = program('second', 'ran-second');
    setEnvironment({ PATH: `${first}:${world.path('missing')}:${second}:${process.env.PATH}` });
    await world.manager().startProcess(world.config('plugin', ['willing.py'], { command: 'plugin-daemon' }));
    expect(fs.existsSync(world.path('ran-second'))).toBe(true);
  });
});

describe('the process', () => {
  test('gets its arguments as they are, and no shell', async () => {
    const odd = ['', ' ', 'a b', '"quoted"', "it's", '$HOME', '`id`', '; exit 1', '*', 'a\nb', '\\', 'Größe 🦀', '--', '-x'];
    const { arguments: seen } = await report(world.manager(), {}, odd);
    expect(seen.slice(1)).toEqual(odd);
  });

  test('works in the folder of its plugin', async () => {
    const { cwd } = await report(world.manager());
    expect(cwd).toBe(world.pluginPath);
  });

  test('works in its folder also when that is a link', async () => {
    fs.symlinkSync(world.pluginPath, world.path('link'));
    const { cwd } = await report(world.manager(), { pluginPath: world.path('link') });
    expect(cwd).toBe(world.pluginPath);
  });

  test('has a session of its own and no terminal', async () => {
    const { pid, pgid, sid, terminal } = await report(world.manager());
    expect({ pgid, sid, terminal }).toEqual({ pgid: pid, sid: pid, terminal: 0 });
  });

  testOnLinux('has three descriptors: nothing to read, and two to write to', async () => {
    const manager = world.manager();
    for (const name of ['one', 'two']) await manager.startProcess(world.config(name));
    const { descriptors } = await report(manager);
    expect(Object.keys(descriptors).sort()).toEqual(['0', '1', '2']);
    expect(descriptors[0]).toBe('/dev/null');
    expect(descriptors[1]).toMatch(/^(pipe|socket):/);
    expect(descriptors[2]).toMatch(/^(pipe|socket):/);
    expect(descriptors[1]).not.toBe(descriptors[2]);
  });

  testOnLinux('has no descriptor of ours when it was restarted either', async () => {
    const manager = world.manager();
    const first = await report(manager, { restart: { delay: 0 } });
    process.kill(first.pid, 'SIGKILL');
    await until(() => manager.getPid('plugin') !== first.pid && manager.isRunning('plugin'));
    const { descriptors } = JSON.parse(fs.readFileSync(world.path('report'), 'utf8'));
    expect(Object.keys(descriptors).sort()).toEqual(['0', '1', '2']);
  });

  testOnLinux('ignores and blocks no signal', async () => {
    // Node itself ignores SIGPIPE, and glibc's posix_spawn 32 and 33, or the test would prove nothing.
    const ignored = (status) => BigInt(`0x${/^SigIgn:\s*(\w+)/m.exec(status)[1]}`);
    const blocked = (status) => BigInt(`0x${/^SigBlk:\s*(\w+)/m.exec(status)[1]}`);
    expect(ignored(fs.readFileSync('/proc/self/status', 'utf8'))).not.toBe(0n);

    const file = world.path('status');
    await world.manager().startProcess(
      world.config('plugin', [], {
        command: path.join(DAEMONS, 'status.sh'),
        args: [file, PYTHON, ...script('willing.py')],
      }),
    );
    const status = fs.readFileSync(file, 'utf8');
    expect(ignored(status)).toBe(0n);
    expect(blocked(status)).toBe(0n);
  });
});
