'use strict';

const fs = require('node:fs');
const { spawn } = require('node:child_process');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testOnLinux, testWith } = require('../helpers/needs');
const { alive, identify, withEnvironment } = require('../helpers/proc');
const { connects } = require('../helpers/sockets');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config } = useCommandedOwner(world);

const files = () => fs.readdirSync(world.folder('plugin')).sort();

testWith('a pid namespace')('ERR_OWNED_ELSEWHERE: an owner in another pid namespace is named at once, and nothing is removed', async () => {
  const inside = commandedOwner({}, { before: ['unshare', '-pf', '--mount-proc', '--kill-child'] });
  expect(await inside.asks('startProcess', config())).toEqual({});
  const note = fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8');
  expect(note).toMatch(/^owner 1 \d+ \d+ [0-9a-f-]{36} pid:\[\d+\] net:\[\d+\] \S+\n$/);
  const before = files();
  // The grace period of this start is what it would wait for a keeper.
  const refusal = failure(world.manager().startProcess(config('plugin', ['serves.py'], { shutdownGracePeriod: 60_000 })));
  const error = await refusal;
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', message: expect.stringContaining('in another container') });
  expect(error.pid).toBeUndefined();
  expect(error.message).toContain('pid namespace');
  expect(files()).toEqual(before);
  expect(fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8')).toBe(note);
  expect(await connects(world.socket('plugin'))).toBe(true);
  expect((await inside.asks('getState', 'plugin')).value).toBe('running');
  expect(await inside.asks('stopProcess', 'plugin')).toEqual({});
  const manager = world.manager();
  await manager.startProcess(config());
  expect(manager.isRunning('plugin')).toBe(true);
});

testWith('a pid namespace')('ERR_OWNED_ELSEWHERE: a start in another pid namespace removes nothing of the owner outside', async () => {
  const manager = world.manager();
  await manager.startProcess(config());
  const daemon = identify(manager.getPid('plugin'));
  const before = files();
  const inside = commandedOwner({}, { before: ['unshare', '-pf', '--mount-proc', '--kill-child'] });
  const { error } = await inside.asks('startProcess', config('plugin', ['serves.py'], { shutdownGracePeriod: 60_000 }));
  expect(error).toEqual(errorWith('ERR_OWNED_ELSEWHERE', 'in another container'));
  expect(files()).toEqual(before);
  expect(alive(daemon)).toBe(true);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

testWith('a pid namespace')("ERR_OWNED_ELSEWHERE: another pid namespace's keeper is neither waited for nor signalled", async () => {
  const inside = commandedOwner({ options: { onOwnerDeath: 'keep' } });
  expect(await inside.asks('startProcess', config())).toEqual({});
  const daemon = identify((await inside.asks('getPid', 'plugin')).value);
  world.killAtEnd(daemon);
  inside.child.kill('SIGKILL');
  await inside.exited;
  await until(() => /^keeper \d+ \d+ \d+ [0-9a-f-]{36} pid:/.test(fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8')));
  const other = commandedOwner({}, { before: ['unshare', '-pf', '--mount-proc', '--kill-child'] });
  const { error } = await other.asks('startProcess', config('plugin', ['serves.py'], { shutdownGracePeriod: 60_000 }));
  expect(error).toEqual(errorWith('ERR_OWNED_ELSEWHERE', 'in another container'));
  expect(alive(daemon)).toBe(true);
  // In its own namespace the daemon is an orphan, and is stopped.
  await world.manager().startProcess(config());
  expect(alive(daemon)).toBe(false);
  expect(withEnvironment(world.dir).some(({ pid }) => pid === daemon.pid)).toBe(false);
});

testWith('a network namespace')('ERR_OWNED_ELSEWHERE: an owner in another network namespace is named at once, with its pid', async () => {
  const inside = commandedOwner({}, { before: ['unshare', '-n'] });
  expect(await inside.asks('startProcess', config())).toEqual({});
  const before = files();
  const error = await failure(world.manager().startProcess(config('plugin', ['serves.py'], { shutdownGracePeriod: 60_000 })));
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: inside.pid });
  expect(error.message).toContain('in another container');
  expect(error.message).toContain('network namespace');
  expect(files()).toEqual(before);
  expect(await connects(world.socket('plugin'))).toBe(true);
});

/** Holds the lock, with this note. */
async function holdLock(note) {
  fs.writeFileSync(`${world.makeFolder('plugin')}/daemon.lock`, note, { mode: 0o600 });
  const holds = 'import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)';
  const holder = spawn('python3', ['-c', holds, `${world.folder('plugin')}/daemon.lock`]);
  world.finally(() => holder.kill('SIGKILL'));
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  return holder;
}

testOnLinux.each(['owner', 'keeper'])(
  'ERR_OWNED_ELSEWHERE: the %s of another machine is neither waited for nor signalled',
  async (kind) => {
    const manager = world.manager();
    await manager.startProcess(config('other'));
    const note = fs.readFileSync(`${world.folder('other')}/daemon.lock`, 'utf8');
    // The pid is that of the holder, which a start must not signal.
    const elsewhere = note.replace(/^owner (\d+) (\d+) (\d+) \S+ (\S+) (\S+) .*/, `${kind} $1 $2 60000 ${'0'.repeat(36)} $4 $5 build-7`);
    expect(elsewhere).toContain('build-7');
    const holder = await holdLock(elsewhere);
    const error = await failure(manager.startProcess(config('plugin', ['serves.py'], { shutdownGracePeriod: 60_000 })));
    expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', message: expect.stringContaining('on another machine, build-7') });
    expect(error.pid).toBeUndefined();
    expect([holder.exitCode, holder.signalCode]).toEqual([null, null]);
    expect(fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8')).toBe(elsewhere);
  },
);

testOnLinux('ERR_OWNED_ELSEWHERE: the note of an older version, without a place, is understood', async () => {
  const manager = world.manager();
  await manager.startProcess(config('other'));
  const note = fs.readFileSync(`${world.folder('other')}/daemon.lock`, 'utf8');
  await holdLock(`${note.split(' ').slice(0, 4).join(' ')}\n`);
  const error = await failure(manager.startProcess(config()));
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: process.pid });
});
