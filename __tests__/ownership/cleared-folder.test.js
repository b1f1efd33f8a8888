'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { alive, ancestors, identify, isLocked, signal } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config } = useCommandedOwner(world);

const outside = () => config('plugin', ['serves.py'], { socketPath: world.path('s'), restart: { delay: 0 } });
const lockFile = () => path.join(world.folder('plugin'), 'daemon.lock');

/** As `python3 -m venv --clear`. */
const clear = () => {
  for (const name of fs.readdirSync(world.folder('plugin'))) fs.rmSync(path.join(world.folder('plugin'), name), { recursive: true });
};

async function restarted(manager, first) {
  signal(first, 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', first.pid));
  return identify(manager.getPid('plugin'));
}

test('lease: a cleared folder does not free the name, before and after a restart', async () => {
  const manager = world.manager();
  await manager.startProcess(outside());
  const first = identify(manager.getPid('plugin'));
  const other = commandedOwner();
  clear();
  const began = performance.now();
  const refused = async () => (await other.asks('startProcess', { ...outside(), shutdownGracePeriod: 30_000 })).error;
  expect(await refused()).toEqual({ ...errorWith('ERR_OWNED_ELSEWHERE'), pid: process.pid });
  expect(performance.now() - began).toBeLessThan(15_000);
  expect(alive(first)).toBe(true);

  const second = await restarted(manager, first);
  expect(isLocked(lockFile())).toBe(true);
  expect(fs.readFileSync(lockFile(), 'utf8')).toMatch(new RegExp(`^owner ${process.pid} `));
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${second.pid}\n`);
  expect(await refused()).toEqual({ ...errorWith('ERR_OWNED_ELSEWHERE'), pid: process.pid });
  expect(alive(second)).toBe(true);

  await manager.stopProcess('plugin');
  expect(fs.readdirSync(world.folder('plugin'))).toEqual(['daemon.lock']);
  expect(await other.asks('startProcess', outside())).toEqual({});
  expect((await failure(manager.startProcess(outside()))).code).toBe('ERR_OWNED_ELSEWHERE');
});

test('lease: the lock file is made anew at a restart, also without another owner', async () => {
  const manager = world.manager();
  await manager.startProcess(outside());
  clear();
  await restarted(manager, identify(manager.getPid('plugin')));
  expect(isLocked(lockFile())).toBe(true);
  await manager.stopProcess('plugin');
  await manager.startProcess(outside());
  expect(manager.isRunning('plugin')).toBe(true);
});

test('dead owner: whose folder was cleared is waited for until its tree is gone', async () => {
  const owner = commandedOwner();
  const stubborn = config('plugin', ['ignores-signals.py'], { socketPath: world.path('s'), shutdownGracePeriod: 1_000 });
  expect(await owner.asks('startProcess', stubborn)).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  clear();
  owner.child.kill('SIGKILL');
  await owner.exited;
  expect(alive(daemon)).toBe(true);
  const manager = world.manager();
  await manager.startProcess({ ...outside(), shutdownGracePeriod: 10_000 });
  expect(alive(daemon)).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);
});

const inode = () => fs.statSync(lockFile(), { throwIfNoEntry: false })?.ino;
const note = () => (inode() ? fs.readFileSync(lockFile(), 'utf8') : '');

test('daemon.lock: is made anew while the daemon runs, and again after a second removal', async () => {
  const manager = world.manager();
  await manager.startProcess(outside());
  const daemon = identify(manager.getPid('plugin'));
  for (let round = 0; round < 2; round++) {
    clear();
    await until(() => note().startsWith(`owner ${process.pid} `));
    expect(isLocked(lockFile())).toBe(true);
    expect(manager.getPid('plugin')).toBe(daemon.pid);
  }
  // Another owner reads the note, also where /proc/locks names no process.
  const other = commandedOwner();
  expect((await other.asks('startProcess', outside())).error).toEqual({ ...errorWith('ERR_OWNED_ELSEWHERE'), pid: process.pid });
  await manager.stopProcess('plugin');
  expect(await other.asks('startProcess', outside())).toEqual({});
});

test('daemon.lock: a file that takes its name is replaced by a locked one', async () => {
  const manager = world.manager();
  await manager.startProcess(outside());
  fs.writeFileSync(`${lockFile()}.new`, 'not a note', { mode: 0o600 });
  fs.renameSync(`${lockFile()}.new`, lockFile());
  await until(() => note().startsWith(`owner ${process.pid} `));
  expect(isLocked(lockFile())).toBe(true);
});

describe('onOwnerDeath keep: the keeper makes daemon.lock anew, and the next start replaces the daemon', () => {
  async function kept() {
    const owner = commandedOwner({ options: { onOwnerDeath: 'keep' } });
    expect(await owner.asks('startProcess', outside())).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    world.killAtEnd(daemon);
    return { owner, daemon, keeper: ancestors(daemon.pid)[0] };
  }

  async function dies({ child, exited }) {
    child.kill('SIGKILL');
    await exited;
  }

  async function expectReplaced({ daemon, keeper }) {
    await until(() => note().startsWith(`keeper ${keeper.pid} `));
    expect(isLocked(lockFile())).toBe(true);
    expect(alive(daemon)).toBe(true);
    const manager = world.manager();
    await manager.startProcess(outside());
    expect(alive(daemon)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
  }

  test('if the folder is cleared after the death of the owner', async () => {
    const { owner, daemon, keeper } = await kept();
    await dies(owner);
    await until(() => note().startsWith(`keeper ${keeper.pid} `));
    for (let round = 0; round < 2; round++) {
      const before = inode();
      clear();
      await until(() => inode() !== undefined && inode() !== before);
    }
    await expectReplaced({ daemon, keeper });
  });

  test('if the folder was cleared before the death of the owner', async () => {
    const { owner, daemon, keeper } = await kept();
    clear();
    await dies(owner);
    await expectReplaced({ daemon, keeper });
  });

  test('if the owner has made daemon.lock anew before its death', async () => {
    const { owner, daemon, keeper } = await kept();
    clear();
    await until(() => note().startsWith(`owner ${owner.pid} `));
    await dies(owner);
    await expectReplaced({ daemon, keeper });
  });
});

test("killMode 'group': what is left alive after the owner's death does not keep the name", async () => {
  const marker = world.path('family');
  const owner = commandedOwner();
  const spares = config('plugin', ['leads-a-tree.py', marker, 'fled'], { socketPath: world.path('s'), killMode: 'group' });
  expect(await owner.asks('startProcess', spares)).toEqual({});
  const { fled } = await world.tree(marker);
  world.killAtEnd(fled);
  owner.child.kill('SIGKILL');
  await owner.exited;
  const manager = world.manager();
  await manager.startProcess({ ...outside(), shutdownGracePeriod: 0 });
  expect(alive(fled)).toBe(true);
  expect(manager.isRunning('plugin')).toBe(true);
});

describe.each([
  ['moved away', () => fs.renameSync(world.folder('plugin'), world.path('moved'))],
  ['removed', () => fs.rmSync(world.folder('plugin'), { recursive: true })],
])('lease: where the folder was %s and made again the second owner wins', (_, replace) => {
  async function twoOwners() {
    const manager = world.manager();
    const restarts = [];
    manager.on('restart', (...event) => restarts.push(event));
    await manager.startProcess(outside());
    const first = identify(manager.getPid('plugin'));
    replace();
    const other = commandedOwner();
    const theirs = config('plugin', ['serves.py'], { socketPath: world.path('t') });
    expect(await other.asks('startProcess', theirs)).toEqual({});
    const second = identify((await other.asks('getPid', 'plugin')).value);
    const record = () =>
      fs.readdirSync(world.folder('plugin')).map((name) => [name, fs.readFileSync(path.join(world.folder('plugin'), name), 'utf8')]);
    return { manager, restarts, first, other, second, record, before: record() };
  }

  test('the first one keeps its daemon, and comes to ERROR at its end without a restart', async () => {
    const { manager, restarts, first, other, second, record, before } = await twoOwners();
    expect([manager.isRunning('plugin'), alive(first)]).toEqual([true, true]);
    signal(first, 'SIGKILL');
    await until(() => manager.getState('plugin') === 'error');
    expect(manager.getProcessInfo('plugin').lastError).toBe(`another live owner runs it (pid ${other.pid})`);
    expect(restarts).toEqual([]);
    expect(await failure(manager.whenRunning('plugin'))).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: other.pid });
    await manager.stopProcess('plugin');
    expect([record(), alive(second)]).toEqual([before, true]);
    // When the second one has stopped, the first one can start again.
    expect(await other.asks('stopProcess', 'plugin')).toEqual({});
    await manager.startProcess(outside());
  });

  test('a stop of the first one leaves the record and the socket of the second one', async () => {
    const { manager, second, record, before } = await twoOwners();
    await manager.stopProcess('plugin');
    expect([record(), alive(second)]).toEqual([before, true]);
    expect(await connects(world.path('t'))).toBe(true);
    expect(fs.existsSync(world.path('s'))).toBe(false);
  });

  test('without a second owner the first one restarts its daemon in the new folder', async () => {
    const manager = world.manager();
    await manager.startProcess(outside());
    const first = identify(manager.getPid('plugin'));
    replace();
    world.makeFolder('plugin');
    const second = await restarted(manager, first);
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${second.pid}\n`);
    expect(isLocked(lockFile())).toBe(true);
  });
});
