'use strict';

// /proc with the mount option subset=pid (systemd: ProcSubset=pid) shows no boot id. The token of an attempt, ALLY_DAEMON_ID, takes
// its place.

const fs = require('node:fs');
const { between, errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { alive, environment, identify, killTogether } = require('../helpers/proc');
const { connects } = require('../helpers/sockets');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, processesBeside, supervisorThread } = useCommandedOwner(world);

const SUBSET = ['unshare', '-m', 'sh', '-c', 'mount -t proc -o subset=pid proc /proc && exec "$@"', 'sh'];
const ownerInSubset = (order = {}) => commandedOwner(order, { before: SUBSET });

const record = () => fs.readFileSync(`${world.folder('plugin')}/daemon.id`, 'utf8');

async function started(owner, changes, fixture = ['serves.py']) {
  expect(await owner.asks('startProcess', config('plugin', fixture, changes))).toEqual({});
  return identify((await owner.asks('getPid', 'plugin')).value);
}

testWith('/proc with subset=pid')(
  'subset=pid: a daemon starts, restarts and stops, and its record has a token in place of a boot',
  async () => {
    const owner = ownerInSubset();
    const first = await started(owner);
    expect(record()).toMatch(/^ally-daemon 1\npid \d+\nstart \d+\nboot - pid:\[\d+\]\n/);
    expect(record()).toContain(`token ${environment(first.pid).get('ALLY_DAEMON_ID')}\n`);
    expect(fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8')).toMatch(/^owner \d+ \d+ \d+ - pid:\[\d+\] net:\[\d+\] \S+\n$/);
    expect(await owner.asks('restartProcess', 'plugin')).toEqual({});
    expect(alive(first)).toBe(false);
    expect(await connects(world.socket('plugin'))).toBe(true);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(processesBeside(owner)).toEqual([]);
    expect(fs.readdirSync(world.folder('plugin'))).toEqual(['daemon.lock']);
  },
);

testWith('/proc with subset=pid')('subset=pid: a live owner is found, whichever side sees no boot id', async () => {
  const [inside, outside] = [ownerInSubset(), commandedOwner()];
  for (const [first, second] of [
    [inside, outside],
    [outside, inside],
  ]) {
    const daemon = await started(first);
    expect((await second.asks('startProcess', config())).error).toEqual({ ...errorWith('ERR_OWNED_ELSEWHERE'), pid: first.pid });
    expect(alive(daemon)).toBe(true);
    expect(await first.asks('stopProcess', 'plugin')).toEqual({});
  }
});

testWith('/proc with subset=pid').each(['inside', 'outside'])('subset=pid: an orphan is stopped by its token from %s', async (where) => {
  const marker = world.path('family');
  const owner = ownerInSubset();
  const leader = await started(owner, {}, ['leads-a-tree.py', marker, 'stubborn', 'grouped']);
  const family = Object.values(await world.tree(marker));
  world.killAtEnd(...family);
  killTogether([identify(owner.pid), ...between(owner, leader)]);
  await owner.exited;
  await until(() => !alive(leader));
  expect(family.every(alive)).toBe(true);
  await started(where === 'inside' ? ownerInSubset() : commandedOwner());
  expect(family.filter(alive)).toEqual([]);
});

testWith('/proc with subset=pid')(
  'subset=pid: a process with pid and start time of the record, and without its token, is not signalled',
  async () => {
    const owner = ownerInSubset();
    const bystander = world.program(['never-binds.py'], { detached: true });
    world.makeFolder('plugin');
    const { start } = identify(bystander.pid);
    const [, namespace] = /(pid:\[\d+\])/.exec(fs.readlinkSync('/proc/self/ns/pid'));
    const text = `ally-daemon 1\npid ${bystander.pid}\nstart ${start}\nboot - ${namespace}\ntoken ${'0'.repeat(32)}\n`;
    fs.writeFileSync(`${world.folder('plugin')}/daemon.id`, text);
    fs.writeFileSync(world.pidFile('plugin'), `${bystander.pid}\n`);
    await started(owner);
    expect(alive(bystander)).toBe(true);
  },
);

testWith('/proc with subset=pid', 'strace')('ERR_IO: subset=pid without readable environments is refused before the spawn', async () => {
  const owner = ownerInSubset();
  // So that the supervisor's thread runs.
  expect(await owner.asks('startProcess', config('warm'))).toEqual({});
  const before = processesBeside(owner);
  const fault = await inject(world, await supervisorThread(owner), ['openat:error=EACCES'], { file: '/proc/self/environ' });
  const marker = world.path('marker');
  const start = owner.asks('startProcess', config('plugin', [], { command: '/bin/sh', args: ['-c', `: > ${marker}`] }));
  expect((await start).error).toEqual(errorWith('ERR_IO', '/proc/self/environ: EACCES', 'subset=pid'));
  await fault.stop();
  expect(fs.existsSync(marker)).toBe(false);
  expect(processesBeside(owner)).toEqual(before);
  // With readable environments the start succeeds.
  await started(owner);
});

testWith('/proc with subset=pid')('onOwnerDeath keep: under subset=pid the daemon is replaced by the next start', async () => {
  const owner = ownerInSubset({ options: { onOwnerDeath: 'keep' } });
  const daemon = await started(owner);
  owner.child.kill('SIGKILL');
  await owner.exited;
  const manager = world.manager();
  await manager.startProcess(config());
  expect(alive(daemon)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
});
