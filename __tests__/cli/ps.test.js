'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { ROOT, SOMEBODY, as, testOnLinux, testWith } = require('../helpers/needs');
const { copyPackage } = require('../helpers/package-copy');
const { between } = require('../helpers/commanded-owner');
const { alive, identify, killTogether, signal, stat } = require('../helpers/proc');
const { MAIN, contents, useCli } = require('../helpers/cli');
const { onTerminal } = require('../helpers/terminal');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const cli = useCli(world);
const UNKNOWN = { restarts: null, lastError: null };

/** An owner in a process of its own, with one running daemon. */
async function owned(order = {}, config = world.config('plugin', ['serves.py'], { shutdownGracePeriod: 500 })) {
  const owner = world.owner('starts-and-ends.js', { configs: [config], end: 'wait', ...order });
  const { plugin } = await owner.says('ready');
  return { owner, daemon: identify(plugin) };
}

/** The cells of a row of the table. */
const cells = (stdout, name = 'plugin') =>
  stdout
    .split('\n')
    .find((line) => line.startsWith(`${name} `))
    ?.split(/ {2,}/);

/** Nothing below the envs folder has changed, not even a time. */
async function unchanged(read) {
  const before = contents(world.envsDir);
  const locks = fs
    .readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .map((line) => line.replace(/^\d+:/, ''));
  const result = await read();
  expect(contents(world.envsDir)).toEqual(before);
  const inodes = before.map(({ ino }) => `:${ino} `);
  const ours = (lines) => lines.filter((line) => inodes.some((inode) => line.includes(inode))).sort();
  expect(
    ours(
      fs
        .readFileSync('/proc/locks', 'utf8')
        .split('\n')
        .map((line) => line.replace(/^\d+:/, '')),
    ),
  ).toEqual(ours(locks));
  return result;
}

testOnLinux('ps: a running daemon of another process, the table and --json say the same, and nothing is changed', async () => {
  const { owner, daemon } = await owned();
  const row = await unchanged(() => cli.row());
  expect(row).toMatchObject({
    name: 'plugin',
    state: 'running',
    pid: daemon.pid,
    owner: { kind: 'process', pid: owner.pid, command: 'node starts-and-ends.js', place: null, keeper: null },
    keeper: stat(daemon.pid).ppid,
    processes: 1,
    version: require('../../package.json').version,
    orphans: [],
    doubtful: [],
    problem: null,
    logFile: null,
    ...UNKNOWN,
  });
  expect(row.uptime).toBeGreaterThan(0);
  expect(row.uptime).toBeLessThan(60_000);
  expect(row.memory).toBeGreaterThan(2 ** 20);
  // The kernel counts CPU time in ticks of 10 ms.
  expect(row.cpuPercent).toBeGreaterThanOrEqual(0);
  const { code, stdout, stderr } = await unchanged(() => cli(['ps']));
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).not.toContain('\u001b');
  expect(stdout.split('\n')[0]).toMatch(/^NAME +STATE +PID +OWNER +UPTIME +RESTARTS +CPU +MEMORY +LAST ERROR$/);
  expect(cells(stdout)).toEqual([
    'plugin',
    'running',
    String(daemon.pid),
    `${owner.pid} node starts-and-ends.js`,
    expect.stringMatching(/^\d+s$/),
    '-',
    expect.stringMatching(/^[\d.]+ %$/),
    expect.stringMatching(/^[\d.]+ MiB$/),
    '-',
  ]);
});

/** The calls with which a program locks, signals or changes files. */
const CHANGES =
  'flock,kill,tgkill,pidfd_send_signal,connect,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,ftruncate,openat';

testWith('strace')('ps, logs, doctor: no lock, no signal, no connection, and no file that is opened for writing', async () => {
  const { daemon } = await owned({}, world.config('plugin', ['serves.py'], { logs: { file: world.path('plugin.log') } }));
  // A dead owner's record too, so that its identity is examined.
  world.makeFolder('old');
  for (const [file, text] of [
    ['daemon.lock', ''],
    ['daemon.id', RECORD(daemon.pid)],
    ['daemon.pid', `${daemon.pid}\n`],
  ]) {
    fs.writeFileSync(path.join(world.folder('old'), file), text);
  }
  for (const words of [['ps'], ['ps', '--json'], ['logs', 'plugin'], ['doctor']]) {
    const trace = world.path('trace');
    const before = ['strace', '-f', '-qq', '-o', trace, '-e', `trace=${CHANGES}`];
    expect(await cli(words, { before })).toMatchObject({ code: 0, stderr: '' });
    const calls = fs.readFileSync(trace, 'utf8').split('\n');
    expect(calls.some((call) => call.includes('daemon.lock'))).toBe(true);
    // Signal 0 asks whether there is such a process.
    const isRead = (call) =>
      call === '' || /openat\(.*O_(RDONLY|PATH)/.test(call) || (/O_CREAT/.test(call) === false && /resumed>/.test(call));
    expect(calls.filter((call) => !isRead(call) && !/ --- SIG| exited with |kill\(-?\d+, 0\)/.test(call))).toEqual([]);
  }
});

testOnLinux('ps: quick, because it loads only what a table of exclusive daemons on a pipe needs', async () => {
  await owned();
  const preload = world.path('preload.js');
  const loaded = '[...process.moduleLoadList, ...Object.keys(require.cache)]';
  fs.writeFileSync(preload, `process.on('exit', () => require('fs').writeSync(2, JSON.stringify(${loaded})));`);
  const { code, stderr } = await cli(['ps'], { env: { NODE_OPTIONS: `--require ${preload}` } });
  expect(code).toBe(0);
  const [builtin, files] = [JSON.parse(stderr).filter((name) => !path.isAbsolute(name)), JSON.parse(stderr).filter(path.isAbsolute)];
  // Of process.stdout. In Node.js 18, node:util loads the module stream.
  expect(builtin.filter((name) => /NativeModule (net|tty)$/.test(name))).toEqual([]);
  const ours = files.filter((file) => file !== preload).map((file) => path.relative(ROOT, file));
  expect(ours.filter((file) => !file.startsWith('prebuilt/')).sort()).toEqual(
    ['arguments', 'disk', 'main', 'plugins', 'ps', 'stdout', 'table', 'verbs'].map((name) => `cli/${name}.js`).concat('native.js'),
  );
});

testOnLinux('ps: a daemon at a socket path of its own is running too, one that does not listen is alive', async () => {
  const configs = [
    world.config('listens', ['serves.py'], { socketPath: world.path('s.sock') }),
    world.config('silent', ['never-binds.py', 'ready'], { readiness: { type: 'output', pattern: '.' } }),
  ];
  const owner = world.owner('starts-and-ends.js', { configs, end: 'wait' });
  await owner.says('ready');
  const { daemons } = await cli.json(['ps']);
  expect(daemons.map(({ name, state }) => [name, state])).toEqual([
    ['listens', 'running'],
    ['silent', 'alive'],
  ]);
  expect((await cli.json(['ps', 'silent'])).daemons.map(({ name }) => name)).toEqual(['silent']);
});

testOnLinux('ps: after an upgrade the daemon that serves is running', async () => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  await owner.asks('startProcess', world.config());
  await owner.asks('upgradeProcess', 'plugin', {});
  const { value: pid } = await owner.asks('getPid', 'plugin');
  expect(await cli.row()).toMatchObject({ state: 'running', pid, owner: { pid: owner.pid } });
});

testOnLinux('ps: a suspended owner does not hold it up', async () => {
  const { owner, daemon } = await owned();
  signal(owner.child.pid, 'SIGSTOP');
  expect(await unchanged(() => cli.row())).toMatchObject({ state: 'running', pid: daemon.pid, owner: { kind: 'process', pid: owner.pid } });
  owner.child.kill('SIGCONT');
});

testOnLinux('ps: a kept daemon of a dead owner shows its keeper', async () => {
  const { owner, daemon } = await owned({ options: { onOwnerDeath: 'keep' } });
  const keeper = stat(daemon.pid).ppid;
  owner.child.kill('SIGKILL');
  await owner.exited;
  await until(() => fs.readFileSync(path.join(world.folder('plugin'), 'daemon.lock'), 'utf8').startsWith('keeper'));
  expect(await unchanged(() => cli.row())).toMatchObject({
    state: 'running',
    pid: daemon.pid,
    owner: { kind: 'dead', keeper },
    orphans: [daemon.pid],
  });
  expect(cells((await cli(['ps'])).stdout).slice(0, 4)).toEqual(['plugin', 'running', String(daemon.pid), `dead, keeper ${keeper}`]);
  expect((await cli(['stop', 'plugin'])).code).toBe(0);
});

testOnLinux('ps: what is left without owner, guardian and keeper is alive, and names the processes', async () => {
  const marker = world.path('family');
  const { owner, daemon } = await owned({}, world.config('plugin', ['leads-a-tree.py', marker, 'stubborn']));
  const { stubborn } = await world.tree(marker);
  const helpers = between(owner, daemon);
  killTogether([identify(owner.pid), ...helpers]);
  await owner.exited;
  await until(() => ![...helpers, daemon].some(alive));
  expect(await unchanged(() => cli.row())).toMatchObject({
    state: 'alive',
    pid: null,
    owner: { kind: 'dead', keeper: null },
    orphans: [stubborn.pid],
  });
  signal(stubborn, 'SIGKILL');
});

testOnLinux('ps: a stopped plugin, and one of a killed owner whose daemon is gone, are stopped', async () => {
  const { owner } = await owned({ end: 'stop' });
  await owner.says('stopped');
  expect(await unchanged(() => cli.row())).toMatchObject({ state: 'stopped', pid: null, owner: null, uptime: null, memory: null });
  const record = 'ally-daemon 1\npid 4194300\nstart 1\nboot x y\n';
  fs.writeFileSync(path.join(world.folder('plugin'), 'daemon.id'), record);
  expect(await unchanged(() => cli.row())).toMatchObject({ state: 'stopped', pid: null, owner: null });
});

testOnLinux('ps: a live owner without a process has the state "-"', async () => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  await owner.asks('startProcess', world.config('plugin', ['serves.py'], { restart: { delay: 60_000 } }));
  const { value: pid } = await owner.asks('getPid', 'plugin');
  process.kill(pid, 'SIGKILL');
  await until(async () => (await cli.row()).pid === null);
  expect(await cli.row()).toMatchObject({ state: null, owner: { kind: 'process', pid: owner.pid } });
  expect(cells((await cli(['ps'])).stdout).slice(1, 3)).toEqual(['-', '-']);
});

test('ps: --envs-dir separates folders, folders without daemon.lock are no plugins, a missing folder has none', async () => {
  for (const name of ['one', 'two']) fs.mkdirSync(world.path(name, name, 'bin'), { recursive: true });
  fs.writeFileSync(world.path('one', 'one', 'daemon.lock'), '');
  const names = async (envsDir) => (await cli.json(['ps'], { envsDir })).daemons.map(({ name }) => name);
  expect(await names(world.path('one'))).toEqual(['one']);
  expect(await names(world.path('two'))).toEqual([]);
  expect(await cli(['ps'], { envsDir: world.path('missing') })).toMatchObject({ code: 0, stderr: '' });
});

test.each([['nothing'], ['..'], ['../plugin'], ['.'], [''], ['a/b']])(
  'ps: the unknown name %j is exit code 1 and one sentence',
  async (name) => {
    world.makeFolder('plugin');
    const { code, stdout, stderr } = await cli(['ps', name]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toBe(`ally-daemons: there is no plugin '${name}' below ${world.envsDir}\n`);
  },
);

test('ps: an envs folder that is a file is exit code 1 and one sentence', async () => {
  fs.writeFileSync(world.path('file'), '');
  expect(await cli(['ps'], { envsDir: world.path('file') })).toEqual({
    code: 1,
    stdout: '',
    stderr: `ally-daemons: ${world.path('file')} can't be read: ENOTDIR\n`,
  });
});

testWith('another user that can load the package')('ps: a plugin of another user has its reason, and the others are shown', async () => {
  fs.chmodSync(world.dir, 0o755);
  for (const name of ['closed', 'open']) {
    world.makeFolder(name);
    fs.writeFileSync(path.join(world.folder(name), 'daemon.lock'), '');
  }
  fs.chmodSync(world.envsDir, 0o755);
  fs.chmodSync(world.folder('open'), 0o755);
  const { daemons } = await cli.json(['ps'], { before: as(SOMEBODY) });
  expect(daemons).toMatchObject([
    { name: 'closed', state: null, problem: expect.stringContaining('EACCES') },
    { name: 'open', state: 'stopped', problem: null },
  ]);
});

test('ps: a name with control characters is shown without them', async () => {
  const name = 'a\u001b[31m\nb';
  world.makeFolder(name);
  fs.writeFileSync(path.join(world.folder(name), 'daemon.lock'), '');
  const { stdout } = await cli(['ps']);
  expect(stdout.split('\n')[1]).toMatch(/^ab +stopped/);
  expect((await cli.json(['ps'])).daemons[0].name).toBe(name);
});

test('ps --watch: without a terminal one table follows the other, without escape sequences', async () => {
  const { child, ...run } = cli.begin(['ps', '--watch']);
  const text = [];
  child.stdout.on('data', (piece) => text.push(piece));
  await until(() => text.join('').split('NAME').length > 2, 15_000);
  child.kill('SIGTERM');
  await run.ended;
  expect(text.join('')).not.toContain('\u001b');
});

testOnLinux('ps --watch: on a terminal the table is redrawn in place until Ctrl-C, exit code 0', async () => {
  const { daemon } = await owned();
  const run = onTerminal(world, [process.execPath, MAIN, 'ps', '--watch', '--envs-dir', world.envsDir], { columns: 120 });
  const frames = () => run.output.split('\r\u001b[').length;
  await until(() => frames() > 2, 15_000);
  expect(run.screen().lines.join('\n')).toMatch(new RegExp(`plugin +running +${daemon.pid}`));
  expect(run.screen().cursorVisible).toBe(false);
  run.type('\u0003');
  expect(await run.ended).toEqual({ code: 0, settingsKept: true });
  expect(run.screen().cursorVisible).toBe(true);
  expect(run.screen().lines.filter((line) => line.startsWith('NAME'))).toHaveLength(1);
});

testOnLinux('ps: colours on a terminal, none with NO_COLOR or TERM=dumb', async () => {
  await owned();
  const program = [process.execPath, MAIN, 'ps', '--envs-dir', world.envsDir];
  const colours = async (env) => {
    const run = onTerminal(world, program, { env, columns: 120 });
    await run.ended;
    return run.output.includes('\u001b[32mrunning\u001b[0m') ? 'coloured' : run.output.includes('\u001b') ? 'other' : 'plain';
  };
  expect(await colours({ NO_COLOR: '' })).toBe('coloured');
  expect(await colours({ NO_COLOR: '1' })).toBe('plain');
  expect(await colours({ NO_COLOR: '', TERM: 'dumb' })).toBe('plain');
});

const RECORD = (pid, start = 1) =>
  `ally-daemon 1\npid ${pid}\nstart ${start}\nboot ${fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${fs.readlinkSync('/proc/self/ns/pid')}\n`;

testOnLinux.each([
  ['empty', '', ''],
  ['text', 'hello', 'hello\n'],
  ['pid 0', '0\n', 'ally-daemon 1\npid 0\nstart 1\nboot x\n'],
  ['pid -1', '-1\n', 'ally-daemon 1\npid -1\nstart 1\nboot x\n'],
  ['pid 1', '1\n', 'ally-daemon 1\npid 1\nstart 1\nboot x\n'],
  ['a huge pid', `${'9'.repeat(30)}\n`, `ally-daemon 1\npid ${'9'.repeat(30)}\nstart 1\nboot x\n`],
  ['a huge file', 'x'.repeat(1_000_000), 'ally-daemon 1\n'.repeat(100_000)],
  ['binary', '\0\u0001\xff', '\0\u0001\xff'],
])('ps, doctor, stop: a record with %s is no process, and nobody is signalled', async (_, pidText, idText) => {
  const folder = world.makeFolder('plugin');
  for (const [file, text] of [
    ['daemon.pid', pidText],
    ['daemon.id', idText],
    ['daemon.lock', `owner ${pidText} 1 1\n`],
  ]) {
    fs.writeFileSync(path.join(folder, file), text, 'latin1');
  }
  expect(await unchanged(() => cli.row())).toMatchObject({ state: 'stopped', pid: null, owner: null, problem: null, orphans: [] });
  const { checks } = await unchanged(() => cli.json(['doctor']));
  expect(checks.filter(({ plugin }) => plugin === 'plugin')).toMatchObject([{ status: 'warning', check: 'pid file' }]);
  // Signals to 0, 1 and -1 would reach this process too.
  expect(await cli(['stop', 'plugin'])).toMatchObject({ code: 0, stderr: '' });
  expect(fs.readdirSync(folder)).toEqual(['daemon.lock']);
});

testOnLinux('ps: a record with the pid of a stranger, or of another boot, is no process', async () => {
  const folder = world.makeFolder('plugin');
  fs.writeFileSync(path.join(folder, 'daemon.lock'), '');
  // The start time of this process is not 1.
  for (const text of [RECORD(process.pid), RECORD(process.pid, stat(process.pid).start).replace(/boot .*/, 'boot x y')]) {
    fs.writeFileSync(path.join(folder, 'daemon.id'), text);
    fs.writeFileSync(path.join(folder, 'daemon.pid'), `${process.pid}\n`);
    expect(await unchanged(() => cli.row())).toMatchObject({ state: 'stopped', pid: null, orphans: [] });
  }
});

testOnLinux('ps: a note of another machine or container is named, and nothing is signalled', async () => {
  const folder = world.makeFolder('plugin');
  const [boot, pidns, netns] = [
    fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    fs.readlinkSync('/proc/self/ns/pid'),
    fs.readlinkSync('/proc/self/ns/net'),
  ];
  const note = (place) => fs.writeFileSync(path.join(folder, 'daemon.lock'), `owner 4711 1 1 ${place}\n`);
  note(`${boot} pid:[1] ${netns} here`);
  expect((await cli.row()).owner).toEqual({ kind: 'elsewhere', pid: 4711, command: null, place: 'in another container', keeper: null });
  note(`another-boot ${pidns} ${netns} workshop`);
  expect(cells((await cli(['ps'])).stdout).slice(0, 4)).toEqual(['plugin', '-', '-', '4711 on another machine, workshop']);
  const stopped = await cli(['stop', 'plugin']);
  expect(stopped).toMatchObject({
    code: 1,
    stderr: "ally-daemons: plugin is held by process 4711 on another machine, workshop, which can't be seen from here\n",
  });
  // An earlier boot of this machine: nothing of it can live.
  note(`another-boot ${pidns} ${netns} ${require('node:os').hostname()}`);
  expect(await cli.row()).toMatchObject({ state: 'stopped', owner: null });
});

testOnLinux('ps: symlinks, pipes and folders in the place of files hold nothing up', async () => {
  const folder = world.makeFolder('plugin');
  fs.writeFileSync(path.join(folder, 'daemon.lock'), '');
  fs.symlinkSync('/proc/self/status', path.join(folder, 'daemon.id'));
  require('node:child_process').execFileSync('mkfifo', [path.join(folder, 'daemon.pid')]);
  fs.symlinkSync(folder, path.join(world.envsDir, 'link'));
  const { daemons } = await unchanged(() => cli.json(['ps']));
  expect(daemons).toMatchObject([
    { name: 'link', state: null, problem: expect.stringMatching(/ELOOP|ENOTDIR/) },
    { name: 'plugin', state: 'stopped', problem: null },
  ]);
});

test('ps: without an addon the one sentence on stderr names the platform', () => {
  const { copy } = copyPackage(world);
  fs.rmSync(path.join(copy, 'prebuilt'), { recursive: true });
  const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(copy, 'cli', 'main.js'), 'ps'], { encoding: 'utf8' });
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(new RegExp(`^ally-daemons: no addon for ${process.platform}-${process.arch} could be loaded: .*\\n$`));
});
