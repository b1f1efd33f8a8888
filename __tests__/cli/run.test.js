'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { ROOT, testOnLinux } = require('../helpers/needs');
const { alive, identify, withEnvironment } = require('../helpers/proc');
const { MAIN, useCli } = require('../helpers/cli');
const { PYTHON } = require('../helpers/python');
const { connects } = require('../helpers/sockets');
const { onTerminal } = require('../helpers/terminal');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { script } = require('../helpers/world');

const world = useWorld();
const cli = useCli(world);
const NOTES = path.join(ROOT, 'examples', 'plugin-loader', 'plugins', 'notes');

/** A plugin's folder whose daemon is a fixture. */
function plugin(fixture, daemon = {}) {
  const folder = world.path('plugin');
  const manifest = { name: 'plugin', daemon: { command: PYTHON, args: script(...fixture), shutdownGracePeriod: 2_000, ...daemon } };
  fs.writeFileSync(path.join(folder, 'plugin.json'), JSON.stringify(manifest));
  return folder;
}

/** `run` of the folder, once its output has that text. */
async function running(folder, text = /running \(pid \d+/, words = []) {
  const run = cli.begin(['run', folder, ...words]);
  await shows(run, text);
  return run;
}

async function shows(run, text, times = 1) {
  const count = () => run.stdout.split(text).length - 1;
  let isOver = false;
  run.ended.then(() => {
    isOver = true;
  });
  await until(() => count() >= times || isOver, 20_000, `${text} is shown`);
  if (count() < times) throw new Error(`ended before ${text}:\n${run.stdout}\n${run.stderr}`);
}

const pidOf = (run) => Number(/running \(pid (\d+)/.exec(run.stdout)[1]);
const nothingLeft = () => expect(withEnvironment(world.dir)).toEqual([]);

testOnLinux('run: an example plugin waits for its first connection, runs from its plugin.json, Ctrl-C stops it, exit code 0', async () => {
  const run = await running(NOTES, `waits for a connection to ${world.socket('notes')}`);
  expect(await connects(world.socket('notes'))).toBe(true);
  await shows(run, /\d+ notes/);
  await shows(run, /running \(pid \d+, ready after \d+ ms\)/);
  expect((await cli.row('notes')).pid).toBe(pidOf(run));
  run.child.kill('SIGINT');
  expect(await run.ended).toMatchObject({ code: 0, stderr: '' });
  const lines = run.stdout.trimEnd().split('\n');
  expect(run.stdout).not.toContain('\u001b');
  // Each line of output has its stream in front.
  expect(lines).toContainEqual(expect.stringMatching(/^out \| \d+ notes$/));
  expect(lines.filter((line) => line.startsWith('--- notes: ')).map((line) => line.split(' ')[2])).toEqual([
    'waits',
    'starting',
    'running',
    'stopping',
    'stopping',
    'pid',
    'stopped',
  ]);
  nothingLeft();
});

testOnLinux.each([
  ['SIGTERM', 143],
  ['SIGHUP', 129],
])('run: %s stops it too, exit code %d', async (signal, code) => {
  const run = await running(plugin(['serves.py']));
  run.child.kill(signal);
  expect((await run.ended).code).toBe(code);
  nothingLeft();
});

testOnLinux('run: Ctrl-C during the start stops it, exit code 0', async () => {
  const run = await running(plugin(['never-binds.py', 'waiting']), /waiting/);
  run.child.kill('SIGINT');
  expect(await run.ended).toMatchObject({ code: 0, stderr: '' });
  nothingLeft();
});

testOnLinux('run: on a terminal Ctrl-C waits for the grace period, and a second one kills the tree at once', async () => {
  const marker = world.path('family');
  const folder = plugin(['leads-a-tree.py', marker, 'stubborn', 'apart'], { shutdownGracePeriod: 50_000 });
  const run = onTerminal(world, [process.execPath, MAIN, 'run', folder, '--envs-dir', world.envsDir], { env: { NO_COLOR: '' } });
  await until(() => run.output.includes('running (pid'), 20_000);
  const family = Object.values(await world.tree(marker));
  run.type('\u0003');
  await until(() => run.output.includes('Ctrl-C again kills it'), 10_000);
  // Closer signals count as one keystroke.
  const next = performance.now() + 200;
  await until(() => performance.now() > next);
  expect(family.every(alive)).toBe(true);
  const typed = performance.now();
  run.type('\u0003');
  expect(await run.ended).toEqual({ code: 0, settingsKept: true });
  expect(performance.now() - typed).toBeLessThan(20_000);
  expect(family.filter(alive)).toEqual([]);
  // State and stream have colours.
  expect(run.output).toContain('\u001b[32m--- plugin: running');
  nothingLeft();
});

testOnLinux('run: streams have colours on a terminal, none with NO_COLOR', async () => {
  const folder = plugin(['prints-pieces.py']);
  fs.writeFileSync(path.join(folder, 'prints.sh'), 'echo out; echo err >&2; exec "$@"');
  const manifest = { name: 'plugin', daemon: { command: '/bin/sh', args: ['prints.sh', PYTHON, ...script('serves.py')] } };
  fs.writeFileSync(path.join(folder, 'plugin.json'), JSON.stringify(manifest));
  const output = async (env) => {
    const run = onTerminal(world, [process.execPath, MAIN, 'run', folder, '--envs-dir', world.envsDir], { env });
    await until(() => run.output.includes('running (pid'), 20_000);
    run.type('\u0003');
    await run.ended;
    return run.output;
  };
  const coloured = await output({ NO_COLOR: '' });
  expect(coloured).toContain('\u001b[36mout |\u001b[0m out');
  expect(coloured).toContain('\u001b[35merr |\u001b[0m err');
  const plain = await output({ NO_COLOR: '1' });
  expect(plain).not.toContain('\u001b');
  expect(plain).toContain('out | out');
});

testOnLinux('run: escape sequences of the daemon pass on a terminal only, and as they are with --json', async () => {
  const line = 'a\u001b[31mred\u0007\u001b[2J\u001b]0;title\u0007\u001b(B\u001b7\u0008\rover\tend';
  const folder = plugin(['serves.py']);
  fs.writeFileSync(path.join(folder, 'line'), `${line}\r\n`);
  fs.writeFileSync(path.join(folder, 'prints.sh'), 'cat line; exec "$@"');
  const manifest = { name: 'plugin', daemon: { command: '/bin/sh', args: ['prints.sh', PYTHON, ...script('serves.py')] } };
  fs.writeFileSync(path.join(folder, 'plugin.json'), JSON.stringify(manifest));
  const output = async (words, text) => {
    const run = await running(folder, text, words);
    run.child.kill('SIGINT');
    return (await run.ended).stdout;
  };
  expect((await output([])).split('\n')).toContain('out | ared over\tend');
  const events = (await output(['--json'], /"to":"running"/)).trimEnd().split('\n');
  expect(events.map((event) => JSON.parse(event).line)).toContainEqual(expect.stringContaining(line));
  const onTty = async (env) => {
    const run = onTerminal(world, [process.execPath, MAIN, 'run', folder, '--envs-dir', world.envsDir], { env });
    await until(() => run.output.includes('running (pid'), 20_000);
    run.type('\u0003');
    await run.ended;
    return run.output;
  };
  expect(await onTty({ NO_COLOR: '' })).toContain(line);
  expect(await onTty({ NO_COLOR: '1' })).not.toContain('\u001b');
});

testOnLinux('run: a crash shows exit and restart, and out of attempts is exit code 1', async () => {
  const folder = plugin(['serves.py'], { restart: { delay: 50, maxAttempts: 1 } });
  const run = await running(folder);
  process.kill(pidOf(run), 'SIGKILL');
  await shows(run, /running \(pid \d+/, 2);
  expect(run.stdout).toMatch(/--- plugin: pid \d+ killed by SIGKILL \(crashed\)\n(.*\n)*--- plugin: restart 1 in \d+ ms/);
  run.child.kill('SIGINT');
  expect((await run.ended).code).toBe(0);
  const failing = cli.begin(['run', plugin(['serves.py'], { restart: { maxAttempts: 0 } })]);
  await shows(failing, /running \(pid \d+/);
  process.kill(pidOf(failing), 'SIGKILL');
  const { code, stderr } = await failing.ended;
  expect(code).toBe(1);
  expect(stderr).toMatch(/^ally-daemons: [^\n]+\n$/);
  nothingLeft();
});

testOnLinux('run: a daemon that ends with code 0 under restart.on failure is exit code 0', async () => {
  const run = await running(plugin(['serves.py'], { restart: { on: 'failure' } }));
  process.kill(pidOf(run), 'SIGTERM');
  expect(await run.ended).toMatchObject({ code: 0, stderr: '' });
});

testOnLinux('run: a failed health check is shown, and when it passes again', async () => {
  const folder = plugin(['serves.py'], {
    healthcheck: {
      interval: 100,
      timeout: 500,
      retries: 1000,
      probe: { type: 'exec', command: 'test', args: ['!', '-e', world.path('sick')] },
    },
  });
  const run = await running(folder);
  fs.writeFileSync(world.path('sick'), '');
  await shows(run, /health check failed, 1 in a row: /);
  fs.rmSync(world.path('sick'));
  await shows(run, /health check passes again/);
  run.child.kill('SIGINT');
  await run.ended;
});

testOnLinux.each([
  ['no plugin.json', () => world.path('envs'), /can't be entered: ENOENT/],
  ['a folder without plugin.json', () => world.path('plugin'), /plugin\.json can't be read: ENOENT/],
  ['no JSON', () => write('{'), /plugin\.json: .*JSON/],
  ['no daemon', () => write('{"name":"plugin"}'), /manifest\.daemon is required/],
  ['an unknown program', () => plugin(['serves.py'], { command: 'no-such-program' }), /ENOENT/],
  ['an exit before ready', () => plugin(['exits.py', '--code', 3]), /exited with code 3/],
])('run: %s is exit code 1 and one sentence', async (_, folder, sentence) => {
  const { code, stderr } = await cli(['run', folder()]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^ally-daemons: [^\n]+\n$/);
  expect(stderr).toMatch(sentence);
  nothingLeft();
});

function write(text) {
  fs.writeFileSync(path.join(world.path('plugin'), 'plugin.json'), text);
  return world.path('plugin');
}

testOnLinux('run: the daemon of another owner is left alone, exit code 1', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const { code, stderr } = await cli(['run', plugin(['serves.py'])]);
  expect(code).toBe(1);
  expect(stderr).toContain(`another live owner runs it (pid ${process.pid})`);
  expect(manager.isRunning('plugin')).toBe(true);
});

testOnLinux('run --json: each event is a line of JSON', async () => {
  const run = await running(plugin(['never-binds.py', 'hello'], { readiness: { type: 'output', pattern: 'hello' } }), /"to":"running"/, [
    '--json',
  ]);
  run.child.kill('SIGINT');
  expect((await run.ended).code).toBe(0);
  const events = run.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(events.every(({ at, pluginName }) => !Number.isNaN(Date.parse(at)) && pluginName === 'plugin')).toBe(true);
  expect(events).toContainEqual(expect.objectContaining({ event: 'output', stream: 'stderr', line: 'hello' }));
  expect(events.filter(({ event }) => event === 'stateChange').map(({ to }) => to)).toEqual(['starting', 'running', 'stopping', 'stopped']);
});

testOnLinux('run --watch: a change upgrades the daemon, byte code, logs and sockets do not', async () => {
  const folder = plugin(['serves.py']);
  fs.mkdirSync(path.join(folder, 'lib'));
  const run = await running(folder, undefined, ['--watch']);
  const first = identify(pidOf(run));
  for (const name of ['x.pyc', 'x.log', 'x.log.1', 'x.sock', '.x.swp']) fs.writeFileSync(path.join(folder, name), '');
  fs.mkdirSync(path.join(folder, '__pycache__'));
  fs.writeFileSync(path.join(folder, '__pycache__', 'x.py'), '');
  // In a folder below, and several at once: one upgrade.
  fs.writeFileSync(path.join(folder, 'lib', 'a.py'), '');
  fs.writeFileSync(path.join(folder, 'b.py'), '');
  await shows(run, /upgraded \(pid \d+\)/);
  expect(run.stdout.match(/changed: .*/g)).toEqual(['changed: b.py, lib/a.py']);
  expect(alive(first)).toBe(false);
  // A new folder is watched too.
  fs.mkdirSync(path.join(folder, 'new'));
  await shows(run, /upgraded \(pid \d+\)/, 2);
  fs.writeFileSync(path.join(folder, 'new', 'c.py'), '');
  await shows(run, /changed: new\/c\.py/);
  await shows(run, /upgraded \(pid \d+\)/, 3);
  run.child.kill('SIGINT');
  expect(await run.ended).toMatchObject({ code: 0, stderr: '' });
  nothingLeft();
});

testOnLinux('run --watch: a broken manifest keeps the old daemon, a mended one is taken, removed fields too', async () => {
  const folder = plugin(['serves.py'], { envVars: { A: '1' } });
  const run = await running(folder, undefined, ['--watch']);
  const first = identify(pidOf(run));
  write('{');
  await shows(run, /waiting for a change/);
  // Another pipe, which may be read later.
  await until(() => /^ally-daemons: .*plugin\.json: .*\n$/.test(run.stderr));
  expect(alive(first)).toBe(true);
  plugin(['exits.py', '--code', 3]);
  await shows(run, /waiting for a change/, 2);
  expect(alive(first)).toBe(true);
  plugin(['serves.py']);
  await shows(run, /upgraded \(pid \d+\)/);
  const { pid } = await cli.row();
  expect(fs.readFileSync(`/proc/${pid}/environ`, 'utf8')).not.toMatch(/(^|\0)A=1/);
  run.child.kill('SIGINT');
  expect((await run.ended).code).toBe(0);
});

testOnLinux('run --watch: after a failed start the next change starts it', async () => {
  const folder = plugin(['exits.py', '--code', 3]);
  const run = cli.begin(['run', folder, '--watch']);
  await shows(run, /waiting for a change/);
  plugin(['serves.py']);
  await shows(run, /running \(pid \d+/);
  run.child.kill('SIGINT');
  expect((await run.ended).code).toBe(0);
  nothingLeft();
});
