'use strict';

const fs = require('node:fs');
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { between } = require('../helpers/commanded-owner');
const { testOnLinux, testWith } = require('../helpers/needs');
const { alive, identify, killTogether, signal } = require('../helpers/proc');
const { MAIN, contents, useCli } = require('../helpers/cli');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const cli = useCli(world);
const GRACE = 500;

async function owned(order = {}, config = world.config('plugin', ['serves.py'], { shutdownGracePeriod: GRACE })) {
  const owner = world.owner('starts-and-ends.js', { configs: [config], end: 'wait', ...order });
  const pids = await owner.says('ready');
  return { owner, daemon: identify(pids[config.pluginName]) };
}

/** Owner, guardian and keeper are killed together, so nobody ends the tree. */
async function orphaned(kinds, name = 'plugin') {
  const marker = world.path(`family-${name}`);
  const { owner, daemon } = await owned({}, world.config(name, ['leads-a-tree.py', marker, ...kinds], { shutdownGracePeriod: GRACE }));
  const family = await world.tree(marker);
  const helpers = between(owner, daemon);
  killTogether([identify(owner.pid), ...helpers]);
  await owner.exited;
  await until(() => ![...helpers, daemon].some(alive));
  return family;
}

testOnLinux('stop: what a dead owner left is stopped, its files are removed, and the name is free', async () => {
  const { stubborn, grouped } = await orphaned(['stubborn', 'grouped']);
  const { code, stdout, stderr } = await cli(['stop', 'plugin']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const [low, high] = [stubborn.pid, grouped.pid].sort((a, b) => a - b);
  expect(stdout).toMatch(new RegExp(`^plugin: stopped \\(pid (${low}, ${high}|${high}, ${low})\\)\\n$`));
  expect([stubborn, grouped].filter(alive)).toEqual([]);
  expect(fs.readdirSync(world.folder('plugin'))).toEqual(['daemon.lock']);
  expect(fs.readFileSync(path.join(world.folder('plugin'), 'daemon.lock'), 'utf8')).toBe('');
  await world.manager().startProcess(world.config());
});

testOnLinux('stop: a kept daemon is stopped by its keeper, with its whole tree', async () => {
  const marker = world.path('family');
  const config = world.config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'fled'], { shutdownGracePeriod: GRACE });
  const { owner, daemon } = await owned({ options: { onOwnerDeath: 'keep' } }, config);
  const family = Object.values(await world.tree(marker));
  const helpers = between(owner, daemon);
  owner.child.kill('SIGKILL');
  await owner.exited;
  expect([daemon, ...family].every(alive)).toBe(true);
  expect(await cli.json(['stop', 'plugin'])).toEqual({
    envsDir: world.envsDir,
    plugins: [{ name: 'plugin', result: 'stopped', pids: [daemon.pid], error: null }],
  });
  expect([daemon, ...family].filter(alive)).toEqual([]);
  await until(() => !helpers.some(alive));
  expect(await cli(['stop', 'plugin'])).toEqual({ code: 0, stdout: 'plugin: was stopped already\n', stderr: '' });
});

testOnLinux.each([['runs'], ['is suspended']])('stop without --force: the daemon of a living owner that %s is left alone', async (how) => {
  const { owner, daemon } = await owned();
  if (how === 'is suspended') {
    signal(owner.child.pid, 'SIGSTOP');
  }
  const before = contents(world.envsDir);
  const { code, stdout, stderr } = await cli(['stop', 'plugin']);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toBe(
    `ally-daemons: plugin has a living owner, process ${owner.pid} node starts-and-ends.js: stop it there, or with --force\n`,
  );
  expect(contents(world.envsDir)).toEqual(before);
  expect(alive(daemon)).toBe(true);
  owner.child.kill('SIGCONT');
});

testOnLinux('stop: several plugins at the same time, a failure of one stops the others nevertheless', async () => {
  const first = await orphaned(['stubborn'], 'first');
  const second = await orphaned(['stubborn'], 'second');
  const { code, stdout, stderr } = await cli(['stop', 'first', 'missing', 'second', 'first']);
  expect(code).toBe(1);
  expect(stdout).toBe(`first: stopped (pid ${first.stubborn.pid})\nsecond: stopped (pid ${second.stubborn.pid})\n`);
  expect(stderr).toBe(`ally-daemons: there is no plugin 'missing' below ${world.envsDir}\n`);
  expect([first.stubborn, second.stubborn].filter(alive)).toEqual([]);
});

testOnLinux('stop: a process whose origin is not proven goes on, and is named', async () => {
  const { quiet, stubborn } = await orphaned(['stubborn', 'quiet']);
  world.killAtEnd(quiet);
  expect((await cli(['stop', 'plugin'])).code).toBe(0);
  expect(alive(stubborn)).toBe(false);
  // In a POSIX session of its own nothing proves where it came from.
  expect(alive(quiet)).toBe(true);
});

testOnLinux('stop: a living process that only daemon.pid names is left alone', async () => {
  const folder = world.makeFolder('plugin');
  const stranger = world.program(['serves.py'], { socketPath: world.socket('plugin') });
  fs.writeFileSync(path.join(folder, 'daemon.lock'), '');
  fs.writeFileSync(path.join(folder, 'daemon.pid'), `${stranger.pid}\n`);
  expect(await cli(['stop', 'plugin'])).toEqual({
    code: 1,
    stdout: '',
    stderr: `ally-daemons: plugin was left alone: process ${stranger.pid} holds it\n`,
  });
  expect(alive(stranger)).toBe(true);
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(true);
});

testOnLinux('stop: a start in the meantime finds the name taken by the command line', async () => {
  const { stubborn } = await orphaned(['stubborn']);
  const run = cli.begin(['stop', 'plugin']);
  await until(() => fs.readFileSync(path.join(world.folder('plugin'), 'daemon.lock'), 'utf8').startsWith(`owner ${run.child.pid} `));
  const error = await failure(world.manager().startProcess(world.config()));
  // It may be over by now on a busy machine.
  if (error) expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: run.child.pid });
  expect((await run.ended).code).toBe(0);
  expect(alive(stubborn)).toBe(false);
});

testWith('a pid namespace')('stop: hostile records signal nobody, also as pid 1 of a namespace', () => {
  const folder = world.makeFolder('plugin');
  fs.writeFileSync(path.join(folder, 'daemon.lock'), 'keeper -1 1 1\nkeeper 1 1 1\nkeeper 0 1 1\n');
  const script = `
    sleep 50 & bystander=$!
    boot=$(cat /proc/sys/kernel/random/boot_id); ns=$(readlink /proc/self/ns/pid)
    for pid in -1 0 1 $bystander $$; do
      printf 'ally-daemon 1\\npid %s\\nstart 1\\nboot %s %s\\nsession %s\\nkeeper %s\\n' $pid "$boot" "$ns" $pid $pid > ${folder}/daemon.id
      echo $pid > ${folder}/daemon.pid
      "$@" ps --json >/dev/null && "$@" doctor --fix >/dev/null && "$@" stop plugin || echo "failed for $pid"
    done
    kill -0 $bystander && echo unharmed; kill $bystander`;
  const words = [process.execPath, MAIN, '--envs-dir', world.envsDir];
  const stdout = execFileSync('unshare', ['-pf', '--mount-proc', '--kill-child', 'bash', '-c', script, 'bash', ...words], {
    encoding: 'utf8',
  });
  expect(stdout.replaceAll('plugin: was stopped already\n', '')).toBe('unharmed\n');
});

test('restart: exclusive, dead, stopped and unknown plugins are exit code 1 and one sentence each', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  fs.mkdirSync(world.folder('old'));
  fs.writeFileSync(path.join(world.folder('old'), 'daemon.lock'), '');
  const { code, stdout, stderr } = await cli(['restart', 'plugin', 'old', 'missing']);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr.split('\n')).toEqual([
    expect.stringMatching(new RegExp(`^ally-daemons: plugin is not shared: its owner must restart it \\(process ${process.pid}\\b`)),
    'ally-daemons: old is not running',
    `ally-daemons: there is no plugin 'missing' below ${world.envsDir}`,
    '',
  ]);
  expect(manager.isRunning('plugin')).toBe(true);
});
