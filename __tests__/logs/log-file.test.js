'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { failure } = require('../helpers/promises');
const { alive, descriptors, everyProcess, identify, signal, stat, target } = require('../helpers/proc');
const { testOnLinux } = require('../helpers/needs');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { problemOf } = require('../config/samples');
const { countLines, expectWhole, wholeLog } = require('./numbered');

const world = useWorld();

const log = (name = 'plugin') => world.path(`${name}.log`);
const marker = (name = 'plugin') => world.path(`${name}.count`);
const config = (changes, name = 'plugin') => {
  const { logs, ...others } = changes ?? {};
  return world.config(name, ['prints-numbered-lines.py', marker(name)], { logs: { file: log(name), maxFiles: 1000, ...logs }, ...others });
};
const size = (file) => (fs.existsSync(file) ? fs.statSync(file).size : 0);

const targets = (pid) => descriptors(pid).map((descriptor) => target(pid, descriptor));

/** The log processes that write into this world. */
const logProcesses = () =>
  everyProcess().filter(({ name, pid }) => name === 'ally-log' && targets(pid).some((each) => each?.startsWith(world.dir)));

test('logs.file: the file has every line of both streams, mode 0600, and getOutput has the last ones', async () => {
  const manager = world.manager();
  const lines = [];
  manager.on('output', ({ line }) => lines.push(line));
  await manager.startProcess(config());
  const pid = manager.getPid('plugin');
  await until(() => size(log()) > 100_000);
  await manager.stopProcess('plugin');
  // The stop waits 200 ms for the log at most.
  await until(() => logProcesses().length === 0);
  expectWhole(log(), marker(), pid);
  expect(fs.statSync(log()).mode & 0o777).toBe(0o600);
  expect(manager.getOutput('plugin').filter((line) => line.endsWith(' end')).length).toBe(2);
  expect(lines.length).toBeGreaterThan(100);
});

test('logs.file: a failed start has the last lines of stderr, as without a file', async () => {
  const manager = world.manager();
  const error = await failure(
    manager.startProcess(world.config('plugin', ['exits.py', '--code', '3', 'the reason'], { logs: { file: log() } })),
  );
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3 });
  expect(error.stderr).toContain('the reason');
  expect(fs.readFileSync(log(), 'utf8')).toContain('the reason');
});

test('logs.maxSize, logs.maxFiles: rotation by number between two lines, and no byte is lost over a restart', async () => {
  const manager = world.manager();
  await manager.startProcess(config({ logs: { maxSize: 10_000 } }));
  const first = manager.getPid('plugin');
  await until(() => fs.existsSync(`${log()}.7`));
  await manager.restartProcess('plugin');
  const second = manager.getPid('plugin');
  await until(() => fs.existsSync(`${log()}.20`));
  await manager.stopProcess('plugin');
  // The stop waits 200 ms for the log at most.
  await until(() => logProcesses().length === 0);
  expectWhole(log(), marker(), first);
  expectWhole(log(), marker(), second);
  for (const name of fs.readdirSync(world.dir).filter((each) => each.startsWith('plugin.log.')))
    expect(size(world.path(name))).toBeLessThanOrEqual(10_000);
});

test('logs.compress: older files become .gz, and a half-made one of a killed log process does no harm', async () => {
  fs.writeFileSync(world.path('.plugin.log.1.gz.new'), 'half');
  const manager = world.manager();
  await manager.startProcess(config({ logs: { maxSize: 50_000, compress: true } }));
  const pid = manager.getPid('plugin');
  await until(() => fs.existsSync(`${log()}.3.gz`));
  await manager.stopProcess('plugin');
  await until(() => logProcesses().length === 0);
  expectWhole(log(), marker(), pid);
  expect(fs.readdirSync(world.dir).filter((name) => name.endsWith('.new'))).toEqual([]);
});

test('logs.file: a moved or removed file is made anew within a second', async () => {
  const manager = world.manager();
  await manager.startProcess(config());
  await until(() => size(log()) > 0);
  fs.renameSync(log(), `${log()}.moved`);
  const begun = performance.now();
  await until(() => size(log()) > 0, 2_000);
  expect(performance.now() - begun).toBeLessThan(1_500);
  fs.unlinkSync(log());
  await until(() => size(log()) > 0, 2_000);
});

test.each([
  ['moved', () => fs.renameSync(log(), `${log()}.moved`)],
  ['removed', () => fs.unlinkSync(log())],
])('logs.file: a file that is %s is made anew while its daemon is quiet, also after an upgrade, and has the next lines', async (_, act) => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['prints-by-and-by.py', 3], { logs: { file: log() } }));
  const round = async () => {
    act();
    await until(() => fs.existsSync(log()), 2_000);
    expect(fs.statSync(log())).toMatchObject({ size: 0, mode: 0o100600 });
  };
  const print = async (from) => {
    signal(identify(manager.getPid('plugin')), 'SIGUSR1');
    await until(() => size(log()) === 6);
    expect(fs.readFileSync(log(), 'utf8')).toBe(`${from}\n${from + 1}\n${from + 2}\n`);
  };
  await until(() => fs.existsSync(log()));
  await round();
  await round();
  await print(0);
  await round();
  await print(3);
  await manager.upgradeProcess('plugin', { envVars: { GENERATION: '2' } });
  await until(() => logProcesses().length === 1);
  // A second name is refused for a while, and the watch goes on after it.
  fs.linkSync(log(), `${log()}.other`);
  fs.unlinkSync(`${log()}.other`);
  await round();
  await print(0);
});

test('logs.file: the folder is made below envsDir, and must exist elsewhere', async () => {
  const manager = world.manager();
  const below = path.join(world.envsDir, 'logs', 'of', 'plugin.log');
  await manager.startProcess(config({ logs: { file: below } }));
  await until(() => size(below) > 0);
  expect(fs.statSync(path.dirname(below)).mode & 0o777).toBe(0o700);
  const missing = world.path('missing', 'other.log');
  const error = await failure(manager.startProcess(config({ logs: { file: missing } }, 'other')));
  expect(error).toMatchObject({ code: 'ERR_IO', errno: 'ENOENT', path: path.dirname(missing) });
  expect(fs.existsSync(path.dirname(missing))).toBe(false);
});

test.each([
  ['a symbolic link', (file) => fs.symlinkSync('/etc/hostname', file), 'is a symbolic link, which is never followed here'],
  ['a folder', (file) => fs.mkdirSync(file), 'must be a plain file'],
  ['a pipe', (file) => execFileSync('mkfifo', [file]), 'must be a plain file'],
  [
    'a hard link',
    (file) => {
      fs.writeFileSync(`${file}.other`, '');
      fs.linkSync(`${file}.other`, file);
    },
    'has another name as well (a hard link)',
  ],
])('logs.file: %s is refused with ERR_IO before the spawn', async (_, make, problem) => {
  make(log());
  const manager = world.manager();
  const error = await failure(manager.startProcess(config()));
  expect(error).toMatchObject({ code: 'ERR_IO', path: log() });
  expect(error.message).toContain(problem);
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
});

test('logs.file: the file of another plugin of this manager is ERR_INVALID_CONFIG and changes nothing', async () => {
  const manager = world.manager();
  await manager.startProcess(config());
  for (const file of [log(), `${log()}.1`, `${log()}.2.gz`, path.join(world.dir, '.', 'plugin.log')]) {
    const error = await failure(manager.startProcess(config({ logs: { file } }, 'other')));
    expect(error.code).toBe('ERR_INVALID_CONFIG');
    expect(problemOf(error)).toContain("logs.file must not be a log file of plugin 'plugin' as well");
    expect(manager.getState('other')).toBeUndefined();
  }
  await manager.stopProcess('plugin');
  await manager.startProcess(config({ logs: { file: log() } }, 'other'));
});

test('logs.file: the file of another plugin of this manager under another path is ERR_INVALID_CONFIG too, at once', async () => {
  const manager = world.manager();
  fs.mkdirSync(world.path('logs'));
  fs.symlinkSync(world.path('logs'), world.path('link'));
  const file = world.path('logs', 'plugin.log');
  await manager.startProcess(config({ logs: { file, maxSize: 10_000, maxFiles: 10 } }));
  // After a rotation the lock is that of a file which the log process has made.
  await until(() => fs.existsSync(`${file}.2`));
  const { config: before } = manager.getProcessInfo('plugin');
  for (const other of [path.join(world.path('link'), 'plugin.log'), `${world.path('logs')}/../logs/plugin.log`]) {
    const begun = performance.now();
    const error = await failure(manager.startProcess(config({ logs: { file: other } }, 'other')));
    expect(performance.now() - begun).toBeLessThan(1_500);
    expect(error.code).toBe('ERR_INVALID_CONFIG');
    expect(problemOf(error)).toContain("logs.file must not be a log file of plugin 'plugin' as well");
    expect(manager.getState('other')).toBeUndefined();
  }
  const both = ['plugin', 'link'].map((name, index) =>
    config({ logs: { file: world.path(['logs', 'link'][index], 'new.log') } }, `new-${name}`),
  );
  const error = await failure(manager.startGroup(both));
  expect(error.errors.map(({ code }) => code)).toEqual(['ERR_INVALID_CONFIG']);
  expect(manager.getProcessInfo('plugin').config).toBe(before);
  await manager.stopProcess('plugin');
  await manager.startProcess(config({ logs: { file: path.join(world.path('link'), 'plugin.log') } }, 'other'));
});

test('logs.file: the file of another live owner is ERR_OWNED_ELSEWHERE, before and after a rotation', async () => {
  const owner = world.manager();
  await owner.startProcess(config({ logs: { maxSize: 10_000, maxFiles: 10 } }));
  const manager = world.manager();
  const refused = async () => {
    const error = await failure(manager.startProcess(config({ logs: { file: log() } }, 'other')));
    expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', path: log() });
    expect(manager.getState('other')).toBeUndefined();
  };
  await refused();
  await until(() => fs.existsSync(`${log()}.3`));
  await refused();
  await owner.stopProcess('plugin');
  await manager.startProcess(config({ logs: { file: log() } }, 'other'));
});

test.each(['daemon.pid', 'daemon.id', 'daemon.lock', 'daemon.log-path', '.daemon.pid.new'])(
  'socketPath, logs.file: %s of the plugin is ERR_INVALID_CONFIG, and nothing is made',
  async (name) => {
    const manager = world.manager();
    const file = path.join(world.envsDir, 'plugin', name);
    for (const [field, changes] of [
      ['socketPath', { socketPath: file }],
      ['logs.file', { logs: { file } }],
    ]) {
      const error = await failure(manager.startProcess(config(changes)));
      expect(error.code).toBe('ERR_INVALID_CONFIG');
      expect(problemOf(error)).toBe(`${field} must not be a file of the manager, such as daemon.pid`);
      expect(fs.existsSync(path.dirname(file))).toBe(false);
    }
  },
);

test('defaults.logs.file: {name} is the name of the plugin', async () => {
  const manager = world.manager({ defaults: { logs: { file: world.path('{name}.{name}.log') } } });
  const { logs: _, ...given } = config();
  await manager.startProcess(given);
  await until(() => size(world.path('plugin.plugin.log')) > 0);
  expect(manager.getProcessInfo('plugin').config.logs).toBeUndefined();
});

testOnLinux('logs.file: a killed log process is replaced, and a marker says that lines may be missing', async () => {
  const warnings = [];
  const ignore = () => {};
  const manager = world.manager({ logger: { debug: ignore, info: ignore, warn: (text) => warnings.push(text), error: ignore } });
  await manager.startProcess(config());
  const pid = manager.getPid('plugin');
  const [first] = await until(() => logProcesses().length === 1 && logProcesses());
  await until(() => size(log()) > 10_000);
  signal(first, 'SIGKILL');
  const killedAt = () => wholeLog(log()).indexOf('[ally] the log process was killed: lines may be missing here\n');
  await until(() => killedAt() > 0);
  const [second] = await until(() => logProcesses().length === 1 && logProcesses());
  expect(second.pid).not.toBe(first.pid);
  await until(() => warnings.some((text) => text.includes('the log process was killed')));
  expect(manager.getPid('plugin')).toBe(pid);
  await manager.stopProcess('plugin');
  // The stop waits for the log process for 200 ms at most, which a busy machine may exceed. Each stream is in order, and no more.
  await until(() => logProcesses().length === 0);
  for (const stream of ['out', 'err']) expect(wholeLog(log())).toContain(`\n${pid} ${stream} end\n`);
});

testOnLinux('logs.file: the log process writes the last lines when keeper and owner are killed, and ends', async () => {
  const owner = world.owner('starts-and-ends.js', { configs: [config()], end: 'wait' });
  const daemon = identify((await owner.says('ready')).plugin);
  await until(() => size(log()) > 10_000);
  const keeper = everyProcess().find(({ pid, name }) => name === 'ally-keeper' && pid === stat(daemon.pid).ppid);
  signal(keeper, 'SIGKILL');
  owner.child.kill('SIGKILL');
  await owner.exited;
  await until(() => !alive(daemon) && logProcesses().length === 0);
  countLines(log());
});

testOnLinux('onOwnerDeath keep: the log goes on after the death of the owner, and over the next start', async () => {
  const owner = world.owner('starts-and-ends.js', { options: { onOwnerDeath: 'keep' }, configs: [config()], end: 'wait' });
  const { plugin: pid } = await owner.says('ready');
  owner.child.kill('SIGKILL');
  await owner.exited;
  const before = size(log());
  await until(() => size(log()) > before + 100_000);
  const manager = world.manager();
  await manager.startProcess(config());
  const second = manager.getPid('plugin');
  await manager.stopProcess('plugin');
  // The stop waits 200 ms for the log at most.
  await until(() => logProcesses().length === 0);
  expectWhole(log(), marker(), pid);
  expectWhole(log(), marker(), second);
});

testOnLinux('logs.file: the log process is none of the daemon, and holds neither its lock nor a stream of the keeper', async () => {
  const manager = world.manager();
  await manager.startProcess(config());
  const [process] = await until(() => logProcesses().length === 1 && logProcesses());
  const held = [path.join(world.folder('plugin'), 'daemon.lock'), world.folder('plugin')];
  expect(targets(process.pid).filter((each) => held.includes(each))).toEqual([]);
  expect(process.session).toBe(process.pid);
  await manager.stopProcess('plugin');
  await until(() => logProcesses().length === 0);
});

testOnLinux('logs.file: a daemon whose order was lost with its guardian has its log file', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('other'));
  const keeper = stat(manager.getPid('other')).ppid;
  const guardian = identify(stat(keeper).ppid);
  // The order waits in the stream of a guardian that does not read it.
  signal(guardian, 'SIGSTOP');
  const start = manager.startProcess(config());
  await until(() => fs.existsSync(log()), 10_000, 'the start is prepared');
  signal(guardian, 'SIGKILL');
  await start;
  await until(() => size(log()) > 0, 10_000, 'the log file has lines');
});
