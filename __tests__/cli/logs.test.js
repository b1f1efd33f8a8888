'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { gzipSync } = require('node:zlib');
const { testOnLinux } = require('../helpers/needs');
const { descriptors, everyProcess, signal, target } = require('../helpers/proc');
const { contents, useCli } = require('../helpers/cli');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { wholeLog } = require('../logs/numbered');
const { logFiles, openFile } = require('../../cli/log-files');

const world = useWorld();
const cli = useCli(world);
const log = () => world.path('plugin.log');
const marker = () => world.path('count');
const numbered = (logs) =>
  world.config('plugin', ['prints-numbered-lines.py', marker()], { logs: { file: log(), maxFiles: 10_000, ...logs } });

/** On a busy machine the log process writes for longer than stopProcess waits. */
async function untilWritten() {
  const targets = (pid) => descriptors(pid).map((descriptor) => target(pid, descriptor));
  const writes = ({ name, pid }) => name === 'ally-log' && targets(pid).some((each) => each?.startsWith(world.dir));
  await until(() => !everyProcess().some(writes), 20_000, 'the log is complete');
}

/** A plugin whose last start wrote this log. */
function planted(files) {
  const folder = world.makeFolder('plugin');
  fs.writeFileSync(path.join(folder, 'daemon.lock'), '');
  fs.writeFileSync(path.join(folder, 'daemon.log-path'), `${log()}\n`);
  for (const [name, bytes] of Object.entries(files)) fs.writeFileSync(world.path(name), bytes);
}

testOnLinux('logs: the whole log of a running and of a stopped daemon, over rotations', async () => {
  const manager = world.manager();
  await manager.startProcess(numbered({ maxSize: 200_000, compress: true }));
  await until(() => fs.readdirSync(world.dir).some((name) => name.endsWith('.gz')));
  const { code, stdout, stderr } = await cli(['logs', 'plugin', '-n', '5']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  // What the daemon writes meanwhile comes as well, as from tail(1).
  expect(stdout.split('\n').length).toBeGreaterThanOrEqual(6);
  await manager.stopProcess('plugin');
  await untilWritten();
  const before = contents(world.envsDir);
  const all = await cli(['logs', 'plugin']);
  expect({ ...all, stdout: all.stdout === wholeLog(log()) }).toEqual({ code: 0, stderr: '', stdout: true });
  expect(contents(world.envsDir)).toEqual(before);
});

test.each([[0], [1], [2], [3], [4], [5], [6], [7], [8], [100]])(
  'logs -n %d: the last lines, also of older and compressed files',
  async (count) => {
    // The last line has no newline yet.
    const files = { 'plugin.log.2.gz': gzipSync('a\nb\n'), 'plugin.log.1': 'c\nd\n', 'plugin.log': 'e\n\nf' };
    planted(files);
    const lines = ['a', 'b', 'c', 'd', 'e', '', 'f'];
    const { stdout } = await cli(['logs', 'plugin', '-n', count]);
    expect(stdout).toBe((count === 0 ? [] : lines.slice(-count)).join('\n'));
  },
);

test('logs: bytes pass as they are, other files of the folder are no part of the log', async () => {
  const bytes = Buffer.from([0xff, 0x00, 0x1b, 0x5b, 0x33, 0x31, 0x6d, 0x0a]);
  planted({ 'plugin.log': bytes, 'plugin.log.20260101x': 'no', 'plugin.log.x': 'no', 'plugin.logs': 'no', 'xplugin.log.1': 'no' });
  const { stdout } = await cli(['logs', 'plugin']);
  expect(Buffer.from(stdout)).toEqual(Buffer.from(bytes.toString('utf8')));
});

test('logs -n: a long line is one line, however many reads it takes', async () => {
  const long = 'x'.repeat(300_000);
  planted({ 'plugin.log': `first\n${long}\nlast\n` });
  expect((await cli(['logs', 'plugin', '-n', '2'])).stdout).toBe(`${long}\nlast\n`);
});

test('logs --json: a line of JSON for each line', async () => {
  planted({ 'plugin.log': 'a\n"ü"\nc' });
  const { stdout } = await cli(['logs', 'plugin', '--json']);
  expect(
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual([{ line: 'a' }, { line: '"ü"' }, { line: 'c' }]);
});

test('logs: rotations in the midst of a listing neither hide nor double a file, and one listing is enough', () => {
  const names = ['', ...Array.from({ length: 9 }, (_, index) => `.${index + 1}`)];
  const inodes = () => names.map((ending) => fs.statSync(log() + ending).ino);
  for (const ending of names) fs.writeFileSync(log() + ending, ending);
  const before = inodes().reverse();
  const { statSync } = fs;
  let rotations = 0;
  const stats = jest.spyOn(fs, 'statSync').mockImplementation((file, options) => {
    // Several at once, so that new files overtake the listing.
    for (let again = /\.[25]$/.test(file) ? 4 : 0; again-- > 0; rotations++) {
      for (let number = 40; number-- > 0; ) {
        const from = number === 0 ? log() : `${log()}.${number}`;
        if (fs.existsSync(from)) fs.renameSync(from, `${log()}.${number + 1}`);
      }
      fs.writeFileSync(log(), 'new');
    }
    return statSync(file, options);
  });
  const listings = jest.spyOn(fs, 'readdirSync');
  try {
    const listed = logFiles(log()).map(({ ino }) => ino);
    stats.mockRestore();
    expect(rotations).toBeGreaterThanOrEqual(8);
    expect(listings).toHaveBeenCalledTimes(1);
    expect(listed.filter((ino) => before.includes(ino))).toEqual(before);
    const now = Array.from({ length: 40 }, (_, index) => statSync(`${log()}.${40 - index}`, { throwIfNoEntry: false })?.ino);
    expect(listed).toEqual([...now, statSync(log()).ino].filter((ino) => listed.includes(ino)));
  } finally {
    stats.mockRestore();
    listings.mockRestore();
  }
});

testOnLinux('logs, -f: in the midst of a rotation, the file that was the live one is read at its place', async () => {
  const leaving = path.join(path.dirname(log()), '.plugin.log.new');
  planted({ 'plugin.log.2': 'a\n', 'plugin.log': 'c\n' });
  fs.writeFileSync(leaving, 'b\n');
  expect((await cli(['logs', 'plugin'])).stdout).toBe('a\nb\nc\n');
  expect((await cli(['logs', 'plugin', '-n', 2])).stdout).toBe('b\nc\n');
  // Still empty, it is the next live file.
  fs.writeFileSync(leaving, '');
  expect((await cli(['logs', 'plugin'])).stdout).toBe('a\nc\n');
  const run = cli.begin(['logs', 'plugin', '-f']);
  await until(() => run.stdout === 'a\nc\n');
  signal(run.child.pid, 'SIGSTOP');
  // Two rotations, the second one up to the step before the last.
  fs.renameSync(log(), `${log()}.2`);
  fs.writeFileSync(leaving, 'd\n');
  fs.writeFileSync(log(), 'e\n');
  run.child.kill('SIGCONT');
  await until(() => run.stdout === 'a\nc\nd\ne\n', 10_000, 'all lines');
  run.child.kill('SIGINT');
  await run.ended;
});

test('logs: a file that was renamed since the listing is found among newer ones that are compressed', () => {
  planted({ 'plugin.log.1': 'mine', 'plugin.log': 'new' });
  const [mine] = logFiles(log());
  fs.renameSync(`${log()}.1`, `${log()}.5`);
  for (const number of [1, 2, 3, 4]) fs.writeFileSync(`${log()}.${number}.gz`, '');
  const fd = openFile(log(), mine);
  expect(fs.readFileSync(fd, 'utf8')).toBe('mine');
  fs.closeSync(fd);
});

testOnLinux('logs -f: no line is missing or doubled, over rotations and restarts', async () => {
  const manager = world.manager();
  // No compression: a reader that is slower than the rotations finds each file under its new name.
  await manager.startProcess(numbered({ maxSize: 20_000 }));
  await until(() => fs.existsSync(`${log()}.2`));
  const run = cli.begin(['logs', 'plugin', '-f']);
  await until(() => run.stdout.length > 100_000, 15_000, 'the first lines');
  await manager.restartProcess('plugin');
  const second = `\n${manager.getPid('plugin')} out `;
  // Not in what was read: a reader on a busy machine is far behind this flood.
  await until(() => fs.readFileSync(log(), 'utf8').includes(second), 15_000, 'a line of the second daemon');
  await until(() => fs.existsSync(`${log()}.30`), 15_000);
  await manager.stopProcess('plugin');
  await untilWritten();
  const whole = wholeLog(log());
  await until(() => run.stdout.length >= whole.length, 15_000, 'the last line');
  run.child.kill('SIGINT');
  await run.ended;
  expect(run.stdout === whole).toBe(true);
  expect(run.stderr).toBe('');
  // Of both daemons. On a busy machine the log process itself drops lines, and writes a line that counts them: also that one is followed.
  const pids = run.stdout.matchAll(/^(\d+) out \d+ \.{80}$/gm);
  expect(new Set(Array.from(pids, ([, pid]) => pid)).size).toBe(2);
});

test('logs -f: a file that comes later, is truncated, moved away or removed is followed', async () => {
  planted({});
  const run = cli.begin(['logs', 'plugin', '-f']);
  const written = [];
  const write = async (text, how = fs.appendFileSync) => {
    written.push(text);
    how(log(), text);
    await until(() => run.stdout === written.join(''), 10_000, `${JSON.stringify(written)} (got ${JSON.stringify(run.stdout)})`);
  };
  // The watch must exist, or the first file would be an old one.
  await until(() => fs.readdirSync(`/proc/${run.child.pid}/fdinfo`).some((fd) => fdinfo(run.child.pid, fd).includes('inotify wd')), 10_000);
  await write('one\n');
  await write('two\n');
  await write('3\n', fs.writeFileSync);
  fs.renameSync(log(), `${log()}.old`);
  await write('four\n');
  fs.rmSync(log());
  await write('five\n');
  run.child.kill('SIGINT');
  await run.ended;
});

const fdinfo = (pid, fd) => {
  try {
    return fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
  } catch {
    return '';
  }
};

testOnLinux('logs: the file is that of the last start, and none after a start without logs.file', async () => {
  const manager = world.manager();
  const withFile = (file) => world.config('plugin', ['serves.py'], { logs: file && { file } });
  const pathFile = path.join(world.folder('plugin'), 'daemon.log-path');
  await manager.startProcess(withFile(world.path('a.log')));
  expect(fs.readFileSync(pathFile, 'utf8')).toBe(`${world.path('a.log')}\n`);
  expect(fs.statSync(pathFile).mode & 0o777).toBe(0o600);
  await manager.upgradeProcess('plugin', { logs: { file: world.path('b.log') } });
  expect(fs.readFileSync(pathFile, 'utf8')).toBe(`${world.path('b.log')}\n`);
  await manager.stopProcess('plugin');
  expect((await cli.row()).logFile).toBe(world.path('b.log'));
  await manager.startProcess(withFile(undefined));
  expect(fs.existsSync(pathFile)).toBe(false);
  expect(await cli(['logs', 'plugin'])).toEqual({
    code: 1,
    stdout: '',
    stderr: 'ally-daemons: plugin has no log file: its last start had no logs.file, and its output is kept by its owner only\n',
  });
});

test('logs: an unknown plugin, and a log file that is gone, are exit code 1 and one sentence', async () => {
  planted({});
  expect(await cli(['logs', 'plugin'])).toEqual({ code: 1, stdout: '', stderr: `ally-daemons: plugin: ENOENT: ${log()} not found\n` });
  expect(await cli(['logs', 'other'])).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no plugin 'other'") });
});

test.each(['', '\n', 'relative.log\n', '/no/newline', '\0\n'])('logs: a damaged daemon.log-path (%j) names no file', async (text) => {
  planted({ 'plugin.log': 'a\n' });
  fs.writeFileSync(path.join(world.folder('plugin'), 'daemon.log-path'), text);
  const { code, stderr } = await cli(['logs', 'plugin']);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^ally-daemons: plugin[^\n]*\n$/);
});
