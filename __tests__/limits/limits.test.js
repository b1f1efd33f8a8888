'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { ANOTHER, as, testWith, testOnLinux } = require('../helpers/needs');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { DAEMONS } = require('../helpers/world');

const world = useWorld();
const testAsRoot = testWith('root');

/** A daemon that only writes its limits, and exits. */
const printing = (file, changes) =>
  world.config('plugin', [], { command: '/bin/sh', args: [path.join(DAEMONS, 'prints-its-limits.sh'), file], ...changes });

function printed(file) {
  const [umask, openFiles, hardOpenFiles, cores, niceness, oomScoreAdj] = fs.readFileSync(file, 'utf8').trim().split('\n');
  return { umask, openFiles, hardOpenFiles, cores, niceness, oomScoreAdj };
}

async function limitsOf(changes, manager = world.manager()) {
  const file = world.path('limits');
  expect((await failure(manager.startProcess(printing(file, changes)))).code).toBe('ERR_STARTUP_EXIT');
  return printed(file);
}

testOnLinux('limits: openFiles, coreDumps, niceness, oomScoreAdj and umask reach the daemon', async () => {
  const limits = { openFiles: 77, coreDumps: false, niceness: 7, oomScoreAdj: 654 };
  const seen = await limitsOf({ limits, umask: 0o027 });
  expect(seen).toEqual({ umask: '0027', openFiles: '77', hardOpenFiles: '77', cores: '0', niceness: '7', oomScoreAdj: '654' });
});

testOnLinux('limits.coreDumps: true allows core dumps', async () => {
  expect((await limitsOf({ limits: { coreDumps: true } })).cores).not.toBe('0');
});

test('umask: files of the daemon have the permissions that it leaves', async () => {
  const manager = world.manager();
  for (const [umask, mode] of [
    [0o077, 0o600],
    [0, 0o666],
  ]) {
    const name = `umask${umask}`;
    const marker = world.path(name);
    await manager.startProcess(world.config(name, ['prints-and-counts.py', marker], { umask }));
    await until(() => fs.existsSync(marker), 10_000, 'the daemon has made its file');
    expect(fs.statSync(marker).mode & 0o777).toBe(mode);
  }
});

testOnLinux('umask and niceness: a change between two starts in one turn of the event loop counts for the second', async () => {
  const manager = world.manager();
  const files = ['before', 'after'].map((name) => world.path(name));
  const before = { umask: process.umask(), niceness: os.getPriority() };
  world.finally(() => process.umask(before.umask));
  const starts = files.map((file, index) => {
    if (index === 1) {
      process.umask(0o026);
      // Only root may take it back, so it is another one only as root.
      if (process.getuid() === 0) os.setPriority(before.niceness + 1);
    }
    return failure(manager.startProcess({ ...printing(file), pluginName: `plugin${index}`, socketPath: world.path(`${index}.sock`) }));
  });
  const own = { umask: process.umask(before.umask), niceness: os.getPriority() };
  if (process.getuid() === 0) os.setPriority(before.niceness);
  await Promise.all(starts);
  const octal = (umask) => `0${umask.toString(8).padStart(3, '0')}`;
  for (const [file, { umask, niceness }] of [
    [files[0], before],
    [files[1], own],
  ])
    expect(printed(file)).toMatchObject({ umask: octal(umask), niceness: String(niceness) });
  expect(own.umask).toBe(0o026);
});

testOnLinux('limits: without the options a daemon has what its owner has at the start, and not what the guardian has', async () => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  const start = (name, file, changes) => owner.asks('startProcess', { ...printing(file, changes), pluginName: name });
  // The guardian has the umask, the niceness and the limits of now.
  await owner.asks('startProcess', world.config('first'));
  const former = world.path('former');
  await start('former', former);
  await owner.asks('limit', { umask: 0o137, niceness: 4, openFiles: [222, 333] });
  const later = world.path('later');
  await start('later', later);
  expect(printed(later)).toMatchObject({ umask: '0137', niceness: '4', openFiles: '222', hardOpenFiles: '333' });
  expect(printed(later)).not.toMatchObject({ umask: printed(former).umask });
  const asked = world.path('asked');
  await start('asked', asked, { umask: 0o022, limits: { niceness: 6, openFiles: 111 } });
  expect(printed(asked)).toMatchObject({ umask: '0022', niceness: '6', openFiles: '111', hardOpenFiles: '111' });
});

testAsRoot.each([
  ['limits.niceness -5', { niceness: -5 }, 'EACCES', 'setpriority'],
  ['limits.oomScoreAdj -900', { oomScoreAdj: -900 }, 'EACCES', 'write'],
  ['limits.openFiles 60000000', { openFiles: 60_000_000 }, 'EPERM', 'setrlimit'],
])('%s of an ordinary user is ERR_SPAWN with its errno', async (limit, limits, errno, syscall) => {
  fs.chmodSync(world.dir, 0o777);
  const owner = world.owner('obeys-commands.js', { envsDir: world.path('theirs') }, { ipc: true, before: as(ANOTHER) });
  const { error } = await owner.asks('startProcess', { ...world.config(), socketPath: world.path('socket'), limits });
  expect(error).toMatchObject({ code: 'ERR_SPAWN', errno, pluginName: 'plugin' });
  expect(error.message).toContain(`${errno}: `);
  expect(error.message).toContain(`${limit} was refused`);
  expect(error.syscall ?? syscall).toBe(syscall);
});

test.each([
  ['limits.niceness', { limits: { niceness: 20 } }],
  ['limits.oomScoreAdj', { limits: { oomScoreAdj: -1001 } }],
  ['limits.openFiles', { limits: { openFiles: 0 } }],
  ['limits.coreDumps', { limits: { coreDumps: 1 } }],
  ['limits.maxMemory', { limits: { maxMemory: '256M' } }],
  ['limits.sustain', { limits: { sustain: -1 } }],
  ['umask', { umask: 0o1000 }],
])('startProcess refuses %s out of its range', async (field, changes) => {
  const error = await failure(world.manager().startProcess({ ...world.config(), ...changes }));
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toContain(`${field} must be `);
});

test('limits and umask may be in the defaults of the manager', async () => {
  const manager = world.manager({ defaults: { limits: { niceness: 3 }, umask: 0o077 } });
  const seen = await limitsOf({}, manager);
  expect(seen).toMatchObject({ umask: '0077', niceness: '3' });
});
