'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync, spawnSync } = require('node:child_process');
const { ROOT, testOnLinux } = require('../helpers/needs');
const { PYTHON } = require('../helpers/python');
const { MAIN, useCli } = require('../helpers/cli');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const cli = useCli(world);
const VERBS = ['ps', 'logs', 'stop', 'restart', 'run', 'doctor', 'completion'];
const SENTENCE = /^ally-daemons: [^\n]+\n$/;

test.each([
  [[], 'a verb is needed'],
  [['list'], "'list' is no verb. See"],
  [['psx'], "'psx' is no verb, but 'ps' is. See"],
  [['ps', '--bad'], "Unknown option '--bad'"],
  [['logs'], 'logs needs NAME'],
  [['logs', 'a', 'b'], "logs takes NAME, got 'b' as well"],
  [['logs', 'a', '-n', 'x'], "-n must be a whole number of lines from 0 upwards, got 'x'"],
  [['logs', 'a', '-n', '-1'], ''],
  [['stop'], 'stop needs NAME'],
  [['run'], 'run needs FOLDER'],
  [['doctor', 'x'], "doctor takes no operand, got 'x' as well"],
  [['completion', 'csh'], "'csh' must be one of bash, zsh, fish"],
  [['help', 'nothing'], "there is no help for 'nothing'"],
  [['ps', '--envs-dir'], "'--envs-dir <value>' argument missing"],
])('command line: wrong usage %j is exit code 2 and one sentence on stderr', async (words, sentence) => {
  world.makeFolder('a');
  fs.writeFileSync(path.join(world.folder('a'), 'daemon.lock'), '');
  const { code, stdout, stderr } = await cli(words, { envsDir: words.includes('logs') ? world.envsDir : null });
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(SENTENCE);
  expect(stderr).toContain(sentence);
  expect(stderr).toContain('--help');
});

test.each(VERBS)('command line: %s --help has the usage and examples, and so has help', async (verb) => {
  const { code, stdout, stderr } = await cli([verb, '--help'], { envsDir: null });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(new RegExp(`^Usage: ally-daemons ${verb}`));
  expect(stdout).toMatch(/Options:\n(.*\n)*.*--json(.*\n)*\nExamples:\n {2}# /);
  expect((await cli(['help', verb], { envsDir: null })).stdout).toBe(stdout);
});

test('command line: --help names all verbs, --version is that of the package', async () => {
  const { stdout } = await cli(['--help'], { envsDir: null });
  for (const verb of VERBS) expect(stdout).toMatch(new RegExp(`^ {2}${verb} `, 'm'));
  expect((await cli(['--version'], { envsDir: null })).stdout).toBe(`${require('../../package.json').version}\n`);
});

test('command line: options of all verbs may come before the verb', async () => {
  const { code, stdout } = await cli(['--json', '--envs-dir', world.envsDir, 'ps'], { envsDir: null });
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toEqual({ envsDir: world.envsDir, daemons: [] });
});

test('--envs-dir: a relative folder belongs to the working directory, the default to HOME', async () => {
  const relative = await cli.json(['ps'], { envsDir: 'envs' });
  expect(relative.envsDir).toBe(world.envsDir);
  const { envsDir } = await cli.json(['ps'], { envsDir: null, env: { HOME: world.dir } });
  expect(envsDir).toBe(world.path('.ally', 'plugin-envs'));
  // Reading makes no folder.
  expect(fs.existsSync(world.path('.ally'))).toBe(false);
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test('command line: a reader that goes away is no failure', () => {
  const { status, stderr } = spawnSync(
    'bash',
    ['-c', `"$0" "$1" --help | head -1; echo "code \${PIPESTATUS[0]}"`, process.execPath, MAIN],
    {
      encoding: 'utf8',
    },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

test('command line: without a reader the exit code and the sentences on stderr are as with one', () => {
  const run = (reader) =>
    spawnSync('bash', ['-c', `"$0" "$1" stop --json missing | ${reader}; exit \${PIPESTATUS[0]}`, process.execPath, MAIN], {
      encoding: 'utf8',
      env: { ...process.env, HOME: world.path('home') },
    });
  const { status, stderr } = run('cat >/dev/null');
  expect(status).toBe(1);
  expect(run('true')).toMatchObject({ status, stderr });
});

test('command line: a full pipe that does not block loses nothing', () => {
  for (let index = 0; index < 300; index++) {
    world.makeFolder(`plugin-${index}`);
    fs.writeFileSync(path.join(world.folder(`plugin-${index}`), 'daemon.lock'), '');
  }
  const script = `
import os, subprocess, sys, time
os.set_blocking(1, True)
read, write = os.pipe()
os.set_blocking(write, False)
child = subprocess.Popen(sys.argv[1:], stdout=write)
os.close(write)
while piece := os.read(read, 4096):
    sys.stdout.buffer.write(piece)
    time.sleep(0.001)
sys.exit(child.wait())`;
  const words = ['ps', '--json', '--envs-dir', world.envsDir];
  const { status, stdout, stderr } = spawnSync(PYTHON, ['-c', script, process.execPath, MAIN, ...words], { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout.length).toBeGreaterThan(65_536);
  expect(JSON.parse(stdout).daemons).toHaveLength(300);
});

testOnLinux("command line: a stdout that can't be written is exit code 1 and one sentence", () => {
  world.makeFolder('plugin');
  for (const redirected of ['> /dev/full', '> file']) {
    const script = `ulimit -f 0; "$0" "$@" ${redirected}`;
    const { status, stderr } = spawnSync('bash', ['-c', script, process.execPath, MAIN, 'ps', '--envs-dir', world.envsDir], {
      encoding: 'utf8',
      cwd: world.dir,
    });
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(SENTENCE) });
  }
});

test('package: bin ally-daemons is an executable file of the package', () => {
  const { bin, files } = require('../../package.json');
  expect(bin).toEqual({ 'ally-daemons': 'cli/main.js' });
  expect(files).toContain('cli');
  expect(fs.statSync(path.join(ROOT, 'cli/main.js')).mode & 0o111).toBe(0o111);
  expect(execFileSync(path.join(ROOT, 'cli/main.js'), ['--version'], { encoding: 'utf8' })).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test('completion: bash offers verbs, options and the names of plugins', () => {
  for (const name of ['search', 'notes']) {
    world.makeFolder(name);
    fs.writeFileSync(path.join(world.folder(name), 'daemon.lock'), '');
  }
  fs.mkdirSync(world.path('home', '.ally'), { recursive: true });
  fs.symlinkSync(world.envsDir, world.path('home', '.ally', 'plugin-envs'));
  fs.mkdirSync(world.path('bin'));
  fs.symlinkSync(MAIN, world.path('bin', 'ally-daemons'));
  const offered = (...words) =>
    execFileSync(
      'bash',
      [
        '--norc',
        '-c',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: bash expands it
        'eval "$(ally-daemons completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ally_daemons; printf "%s\\n" "${COMPREPLY[@]}"',
        'bash',
        'ally-daemons',
        ...words,
      ],
      {
        encoding: 'utf8',
        env: {
          ...process.env,
          HOME: world.path('home'),
          PATH: `${world.path('bin')}:${path.dirname(process.execPath)}:${process.env.PATH}`,
        },
      },
    )
      .trim()
      .split('\n');
  expect(offered('st')).toEqual(['stop']);
  expect(offered('')).toEqual(expect.arrayContaining(VERBS));
  expect(offered('stop', 's')).toEqual(['search']);
  expect(offered('--envs-dir', '/x', 'logs', '')).toEqual(['notes', 'search']);
  expect(offered('doctor', '--f')).toEqual(['--fix']);
  expect(offered('completion', 'z')).toEqual(['zsh']);
});

test.each(['bash', 'zsh', 'fish'])('completion: the script for %s has every verb and option', async (shell) => {
  const { code, stdout, stderr } = await cli(['completion', shell]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  for (const word of [...VERBS, 'watch', 'follow', 'fix', 'force', 'envs-dir', 'json']) expect(stdout).toContain(word);
  const checker = { bash: ['bash', '-n'], zsh: ['zsh', '-n'], fish: ['fish', '--no-execute'] }[shell];
  const checked = spawnSync(checker[0], checker.slice(1), { input: stdout, encoding: 'utf8' });
  // Not each machine has all shells.
  if (checked.error?.code !== 'ENOENT') expect({ status: checked.status, stderr: checked.stderr }).toEqual({ status: 0, stderr: '' });
});
