'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { spawn, spawnSync } = require('node:child_process');
const { between } = require('../helpers/commanded-owner');
const { ANOTHER, testOnLinux, testWith } = require('../helpers/needs');
const { copyPackage } = require('../helpers/package-copy');
const { alive, identify, isLocked, killTogether, signal, stat } = require('../helpers/proc');
const { contents, useCli } = require('../helpers/cli');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const cli = useCli(world);

/** The checks of one plugin, and the exit code. Looking must change nothing. */
async function diagnosis(plugin = 'plugin', words = []) {
  const before = contents(world.envsDir);
  const { code, stdout, stderr } = await cli(['doctor', '--json', ...words]);
  expect(stderr).toBe('');
  if (!words.includes('--fix')) expect(contents(world.envsDir)).toEqual(before);
  const { checks } = JSON.parse(stdout);
  return { code, checks: checks.filter((check) => check.plugin === plugin), all: checks };
}

function planted(files = {}, name = 'plugin') {
  const folder = world.makeFolder(name);
  for (const [file, text] of Object.entries({ 'daemon.lock': '', ...files })) fs.writeFileSync(path.join(folder, file), text);
  return folder;
}

async function owned(order = {}, config = world.config('plugin', ['serves.py'], { shutdownGracePeriod: 500 })) {
  const owner = world.owner('starts-and-ends.js', { configs: [config], end: 'wait', ...order });
  const { plugin } = await owner.says('ready');
  return { owner, daemon: identify(plugin) };
}

testOnLinux('doctor: a sound system is ok in each line, exit code 0', async () => {
  await owned();
  const { code, stdout, stderr } = await cli(['doctor']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).not.toContain('\u001b');
  const lines = stdout.trimEnd().split('\n');
  expect(lines.filter((line) => !/^(ok|warning) +[a-z/_ ]+: /.test(line))).toEqual([]);
  for (const check of ['addon', 'guardian', '/proc', 'pidfd', 'unix_diag', 'inotify', 'processes', 'open files', 'envs folder', 'plugins'])
    expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^ok +${check}: `)));
  const { checks, problems } = JSON.parse((await cli(['doctor', '--json'])).stdout);
  expect(problems).toBe(0);
  expect(checks.map(({ check }) => check)).toEqual(lines.map((line) => /^\w+ +(.*?): /.exec(line)[1]));
});

testOnLinux('doctor: stale files are warnings, --fix removes them and nothing else', async () => {
  const folder = planted({
    'daemon.pid': '4194300\n',
    'daemon.id': 'ally-daemon 1\npid 4194300\nstart 1\nboot x y\n',
    '.daemon.id.new': '',
    data: 'mine',
  });
  const program = world.program(['serves.py'], { socketPath: world.socket('plugin') });
  await until(() => fs.existsSync(world.socket('plugin')));
  // A socket that a process holds is not stale.
  expect((await diagnosis()).checks).toMatchObject([{ status: 'warning', check: 'pid file', fixed: false }]);
  signal(program, 'SIGKILL');
  await until(() => !alive(program));
  const found = await diagnosis();
  expect(found).toMatchObject({
    code: 0,
    checks: [{ check: 'pid file' }, { check: 'socket', seen: `nobody holds ${world.socket('plugin')}` }],
  });
  expect(found.checks[0].remedy).toBe(`ally-daemons doctor --fix --envs-dir ${world.envsDir}`);
  expect((await diagnosis('plugin', ['--fix'])).checks).toMatchObject([{ fixed: true }, { fixed: true }]);
  expect(fs.readdirSync(folder).sort()).toEqual(['daemon.lock', 'data']);
  expect((await diagnosis()).checks).toEqual([]);
});

testOnLinux('doctor --fix: without the lock nothing is removed, and the line says who has it', async () => {
  planted({ 'daemon.pid': '4194300\n' });
  // An owner that has not written its note yet.
  const lock = path.join(world.folder('plugin'), 'daemon.lock');
  const holder = spawn('flock', ['--no-fork', lock, 'sleep', '30'], { stdio: 'ignore', env: { ...process.env, TEST_WORLD: world.dir } });
  world.programs.push(holder);
  await until(() => isLocked(lock));
  const { checks } = await diagnosis('plugin', ['--fix']);
  expect(checks).toMatchObject([
    { check: 'pid file', fixed: false, seen: expect.stringMatching(/\(not removed: plugin was left alone: another process holds it\)$/) },
  ]);
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(true);
});

testOnLinux('doctor: orphans without a keeper are a problem, and the remedy ends them', async () => {
  const marker = world.path('family');
  const { owner, daemon } = await owned({}, world.config('plugin', ['leads-a-tree.py', marker, 'stubborn'], { shutdownGracePeriod: 500 }));
  const { stubborn } = await world.tree(marker);
  const helpers = between(owner, daemon);
  killTogether([identify(owner.pid), ...helpers]);
  await owner.exited;
  await until(() => ![...helpers, daemon].some(alive));
  const { code, checks } = await diagnosis('plugin', ['--fix']);
  expect(code).toBe(1);
  expect(checks).toEqual([
    {
      status: 'problem',
      check: 'orphan',
      plugin: 'plugin',
      seen: `pid ${stubborn.pid} of a dead owner goes on`,
      remedy: `ally-daemons stop plugin --envs-dir ${world.envsDir}`,
      fixed: false,
    },
  ]);
  // --fix ends no process.
  expect(alive(stubborn)).toBe(true);
  expect((await cli(checks[0].remedy.split(' ').slice(1), { envsDir: null })).code).toBe(0);
  expect(alive(stubborn)).toBe(false);
  expect(await diagnosis()).toMatchObject({ code: 0, checks: [] });
});

testOnLinux('doctor: a kept daemon and a suspended owner are warnings with their remedy', async () => {
  const { owner, daemon } = await owned({ options: { onOwnerDeath: 'keep' } });
  signal(owner.child.pid, 'SIGSTOP');
  expect(await diagnosis()).toMatchObject({ code: 0, checks: [{ status: 'warning', check: 'owner', remedy: `kill -CONT ${owner.pid}` }] });
  owner.child.kill('SIGKILL');
  await owner.exited;
  await until(() => fs.readFileSync(path.join(world.folder('plugin'), 'daemon.lock'), 'utf8').startsWith('keeper'));
  const seen = `pid ${daemon.pid} of a dead owner goes on, kept by process ${stat(daemon.pid).ppid}`;
  expect(await diagnosis()).toMatchObject({ code: 0, checks: [{ status: 'warning', check: 'orphan', seen }] });
  expect((await cli(['stop', 'plugin'])).code).toBe(0);
});

testOnLinux('doctor: a daemon by another version or another installation is a warning', async () => {
  await owned();
  const file = path.join(world.folder('plugin'), 'daemon.id');
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/^version .*$/m, 'version 0.0.9'));
  expect(await diagnosis()).toMatchObject({
    checks: [{ status: 'warning', check: 'version', seen: expect.stringContaining('version 0.0.9') }],
  });
  const { copy } = copyPackage(world);
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('version 0.0.9', `version ${require('../../package.json').version}`));
  const words = [path.join(copy, 'cli', 'main.js'), 'doctor', '--json', '--envs-dir', world.envsDir];
  const { checks } = JSON.parse(spawnSync(process.execPath, words, { encoding: 'utf8' }).stdout);
  expect(checks.filter(({ plugin }) => plugin === 'plugin')).toMatchObject([
    { check: 'version', seen: expect.stringContaining('another installation') },
  ]);
});

test('doctor: folders open to others, symbolic links and folders in the place of files', async () => {
  fs.chmodSync(planted({}, 'open'), 0o755);
  planted({}, 'blocked');
  fs.mkdirSync(path.join(world.folder('blocked'), 'daemon.pid'));
  fs.symlinkSync(world.folder('open'), world.folder('link'));
  const { code, all } = await diagnosis();
  expect(code).toBe(1);
  expect(all.filter(({ plugin }) => plugin !== null)).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ plugin: 'open', status: 'warning', check: 'folder', remedy: `chmod 700 ${world.folder('open')}` }),
      expect.objectContaining({ plugin: 'link', status: 'problem', check: 'folder', remedy: `rm ${world.folder('link')}` }),
      expect.objectContaining({ plugin: 'blocked', status: 'problem', check: 'record' }),
    ]),
  );
});

test('doctor: an envs folder that others can write to is a warning, one that is a file a problem', async () => {
  planted();
  fs.chmodSync(world.envsDir, 0o777);
  expect((await diagnosis()).all).toContainEqual(
    expect.objectContaining({ status: 'warning', check: 'envs folder', remedy: `chmod go-w ${world.envsDir}` }),
  );
  // As /tmp: others can't rename what is not theirs.
  fs.chmodSync(world.envsDir, 0o1777);
  expect((await diagnosis()).all).toContainEqual(expect.objectContaining({ status: 'ok', check: 'envs folder' }));
  fs.writeFileSync(world.path('file'), '');
  const { code, stdout } = await cli(['doctor'], { envsDir: world.path('file') });
  expect(code).toBe(1);
  expect(stdout).toMatch(/^problem +envs folder: .* is no folder; mend: mv /m);
});

testWith('root')('doctor: an envs folder and a plugin of another user are problems', async () => {
  fs.chownSync(planted(), Number(ANOTHER), Number(ANOTHER));
  expect(await diagnosis()).toMatchObject({
    code: 1,
    checks: [{ status: 'problem', check: 'folder', seen: expect.stringContaining(`belongs to user ${ANOTHER}`) }],
  });
  fs.chownSync(world.envsDir, Number(ANOTHER), Number(ANOTHER));
  expect((await diagnosis()).all).toContainEqual(expect.objectContaining({ status: 'problem', check: 'envs folder' }));
});

test('doctor: a socket path that is too long is a problem', async () => {
  const name = 'n'.repeat(120);
  planted({}, name);
  expect(await diagnosis(name)).toMatchObject({
    code: 1,
    checks: [{ status: 'problem', check: 'socket path', seen: expect.stringContaining('bytes') }],
  });
  const deep = world.path('d'.repeat(100));
  fs.mkdirSync(deep);
  const { code, stdout } = await cli(['doctor'], { envsDir: deep });
  expect(code).toBe(1);
  expect(stdout).toMatch(/^problem +socket paths: .*no plugin can have its socket there/m);
});

test('doctor: an environment without .installed, or with a failed installation, is a problem', async () => {
  fs.mkdirSync(path.join(planted({}, 'half'), 'bin'));
  fs.mkdirSync(path.join(planted({ '.installed': '' }, 'whole'), 'bin'));
  planted({ '.installed': JSON.stringify({ name: 'failed', status: 'error', error: 'pip: no such package' }) }, 'failed');
  planted({ '.installed': '{"status":"ready"}' }, 'ready');
  const { code, all } = await diagnosis();
  expect(code).toBe(1);
  expect(all.filter(({ check }) => check === 'environment')).toMatchObject([
    { status: 'problem', plugin: 'failed', seen: 'its installation failed: pip: no such package' },
    { status: 'problem', plugin: 'half', seen: expect.stringMatching(/^is not installed: .* has bin and no \.installed/) },
  ]);
});

test('doctor: a note of another machine has the command for after a crash there', async () => {
  const folder = planted({ 'daemon.lock': 'owner 4711 1 1 another-boot - - workshop\n', 'daemon.pid': '4711\n' });
  const { code, checks } = await diagnosis('plugin', ['--fix']);
  expect(code).toBe(0);
  expect(checks).toMatchObject([{ status: 'warning', check: 'owner', remedy: `rm ${path.join(folder, 'daemon.lock')}` }]);
  expect(checks[0].seen).toContain('workshop');
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(true);
});

test('doctor: a guardian that is missing, not executable or writable for all is a problem with its remedy', () => {
  const { copy, guardian } = copyPackage(world);
  const run = () => {
    const { status, stdout } = spawnSync(process.execPath, [path.join(copy, 'cli', 'main.js'), 'doctor', '--envs-dir', world.envsDir], {
      encoding: 'utf8',
    });
    return { status, line: stdout.split('\n').find((line) => / guardian: /.test(line)) };
  };
  fs.chmodSync(guardian, 0o644);
  expect(run()).toEqual({ status: 1, line: expect.stringMatching(/^problem .*not executable \(mode 0644\); mend: chmod 755 /) });
  fs.chmodSync(guardian, 0o757);
  expect(run()).toEqual({ status: 1, line: expect.stringMatching(/^problem .*writable for all users/) });
  fs.rmSync(guardian);
  expect(run()).toEqual({ status: 1, line: expect.stringMatching(/^problem .*ENOENT; mend: npm install$/) });
  fs.rmSync(path.join(copy, 'prebuilt'), { recursive: true });
  expect(run()).toEqual({ status: 1, line: expect.stringMatching(/^problem .*no guardian without an addon/) });
});

testOnLinux('doctor: low limits of the process are warnings', async () => {
  const { stdout } = await cli(['doctor'], { before: ['prlimit', '--nofile=64:64'] });
  expect(stdout).toMatch(/^warning +open files: only 64 per process; mend: ulimit -n /m);
});

testWith('strace')('doctor: a system without pidfd, unix_diag or inotify is named', async () => {
  const inject = (call, errno) => ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:error=${errno}`];
  const line = async (call, errno, check) =>
    (await cli(['doctor'], { before: inject(call, errno) })).stdout.split('\n').find((each) => each.includes(` ${check}: `));
  expect(await line('pidfd_open', 'ENOSYS', 'pidfd')).toMatch(/^(warning|ok) /);
  expect(await line('inotify_init1', 'EMFILE', 'inotify')).toMatch(/^warning .*EMFILE.*; mend: sysctl /);
});
