'use strict';

const fs = require('node:fs');
const { connects, expectNothingLeft, record, useWorld } = require('./helpers/world');
const { alive, identify, signal, testOnLinux } = require('./helpers/processes');
const { failure, until, watch } = require('./helpers/until');

const world = useWorld();

async function started(manager, fixture, changes) {
  await manager.startProcess(world.config('plugin', fixture, changes));
  return identify(manager.getPid('plugin'));
}

/** How long it took, to compare with the grace period. */
async function stop(manager, name = 'plugin') {
  const began = performance.now();
  await expect(manager.stopProcess(name)).resolves.toBeUndefined();
  return performance.now() - began;
}

test('what a process starts to clean up, when it is asked to stop, is not asked itself', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await started(manager, ['family.py', marker, ...Array(20).fill('cleans')], { shutdownGracePeriod: 10_000 });
  await stop(manager);
  expect(fs.existsSync(`${marker}.asked`)).toBe(false);
});

describe('one daemon', () => {
  test('that is willing goes at once, by itself', async () => {
    const manager = world.manager();
    const events = record(manager);
    const daemon = await started(manager, ['willing.py'], { shutdownGracePeriod: 20_000 });
    expect(await stop(manager)).toBeLessThan(5_000);

    expectNothingLeft(world, 'plugin', [daemon]);
    expect(manager.isRunning('plugin')).toBe(false);
    expect(manager.getState('plugin')).toBe('stopped');
    expect(manager.getPid('plugin')).toBeUndefined();
    const info = manager.getProcessInfo('plugin');
    expect(info).toMatchObject({ state: 'stopped', lastExit: { pid: daemon.pid, code: 0, reason: 'stopped' } });
    for (const key of ['pid', 'uptime', 'lastError', 'nextRestartAt']) expect(info[key]).toBeUndefined();

    await until(() => events.states('plugin').length === 4 && events.of('exit').length === 1);
    expect(events.states('plugin')).toEqual(['starting', 'running', 'stopping', 'stopped']);
    expect(events.of('exit')).toEqual([expect.objectContaining({ pluginName: 'plugin', pid: daemon.pid, code: 0, reason: 'stopped' })]);
    expect(events.of('restart')).toEqual([]);
  });

  test('that ignores the signal is killed after the grace period', async () => {
    const manager = world.manager();
    const daemon = await started(manager, ['stubborn.py'], { shutdownGracePeriod: 500 });
    const took = await stop(manager);
    expect(took).toBeGreaterThanOrEqual(495);
    expect(took).toBeLessThan(2_500);
    expectNothingLeft(world, 'plugin', [daemon]);
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: daemon.pid, signal: 'SIGKILL', reason: 'stopped' });
    expect(manager.getProcessInfo('plugin').lastExit.code).toBeUndefined();
  });

  test('without a grace period is killed at once', async () => {
    const manager = world.manager();
    const daemon = await started(manager, ['stubborn.py'], { shutdownGracePeriod: 0 });
    expect(await stop(manager)).toBeLessThan(2_000);
    expectNothingLeft(world, 'plugin', [daemon]);
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ signal: 'SIGKILL' });
  });

  test('that is stopped by SIGSTOP is woken to hear the signal', async () => {
    const manager = world.manager();
    const daemon = await started(manager, ['willing.py'], { shutdownGracePeriod: 20_000 });
    signal(daemon, 'SIGSTOP');
    expect(await stop(manager)).toBeLessThan(5_000);
    expectNothingLeft(world, 'plugin', [daemon]);
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'stopped' });
  });

  test.each([
    [undefined, 15],
    ['SIGTERM', 15],
    ['SIGINT', 2],
    ['SIGUSR2', 12],
    ['SIGQUIT', 3],
    ['SIGHUP', 1],
  ])('hears stopSignal %s', async (stopSignal, number) => {
    const manager = world.manager();
    const marker = world.path('heard');
    const daemon = await started(manager, ['signals.py', marker], { stopSignal, shutdownGracePeriod: 20_000 });
    expect(await stop(manager)).toBeLessThan(5_000);
    expect(fs.readFileSync(marker, 'utf8')).toBe(String(number));
    expectNothingLeft(world, 'plugin', [daemon]);
  });

  test('with stopSignal SIGKILL has no grace to wait for', async () => {
    const manager = world.manager();
    const daemon = await started(manager, ['stubborn.py'], { stopSignal: 'SIGKILL', shutdownGracePeriod: 20_000 });
    expect(await stop(manager)).toBeLessThan(5_000);
    expectNothingLeft(world, 'plugin', [daemon]);
  });

  test('that has just been killed by somebody else is stopped as well', async () => {
    const manager = world.manager();
    const daemon = await started(manager, ['willing.py'], { restart: { delay: 0 } });
    process.kill(daemon.pid, 'SIGKILL');
    await stop(manager);
    expect(manager.getState('plugin')).toBe('stopped');
    expectNothingLeft(world, 'plugin', [daemon]);
  });
});

describe('the whole tree', () => {
  const kinds = ['stubborn', 'willing', 'grouped', 'fled', 'quiet'];

  test('goes: every one is asked, the stubborn are killed after the grace period', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    const leader = await started(manager, ['family.py', marker, ...kinds], { shutdownGracePeriod: 600 });
    const family = await world.family(marker);
    expect(Object.keys(family).sort()).toEqual([...kinds].sort());
    expect(Object.values(family).every(alive)).toBe(true);

    const stopping = watch(manager.stopProcess('plugin'));
    await until(() => !alive(leader) && fs.existsSync(`${marker}.willing`));
    // The leader has gone; the others still have their time.
    if (!stopping.settled) expect(manager.getState('plugin')).toBe('stopping');
    await stopping.promise;
    expectNothingLeft(world, 'plugin', [leader, ...Object.values(family)]);
    // The leader itself left in good order.
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: leader.pid, code: 0, reason: 'stopped' });
  });

  test('has its grace period also when the leader is gone at once', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    await started(manager, ['family.py', marker, 'fled'], { shutdownGracePeriod: 600 });
    const took = await stop(manager);
    expect(took).toBeGreaterThanOrEqual(595);
    expect(took).toBeLessThan(2_600);
    expectNothingLeft(world, 'plugin', Object.values(await world.family(marker)));
  });

  test('whose members are all willing does not wait for the grace period', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    await started(manager, ['family.py', marker, 'willing'], { shutdownGracePeriod: 20_000 });
    expect(await stop(manager)).toBeLessThan(5_000);
    expect(fs.existsSync(`${marker}.willing`)).toBe(true);
  });

  test('goes also where its members are stopped', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    const leader = await started(manager, ['family.py', marker, 'willing'], { shutdownGracePeriod: 20_000 });
    const { willing } = await world.family(marker);
    signal(willing, 'SIGSTOP');
    signal(leader, 'SIGSTOP');
    expect(await stop(manager)).toBeLessThan(5_000);
    expectNothingLeft(world, 'plugin', [leader, willing]);
    expect(fs.existsSync(`${marker}.willing`)).toBe(true);
  });

  test('of one plugin is not that of another', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('other', ['family.py', world.path('other'), 'fled', 'grouped'], { shutdownGracePeriod: 100 }));
    const others = Object.values(await world.family(world.path('other')));
    await started(manager, ['family.py', world.path('family'), 'fled', 'grouped'], { shutdownGracePeriod: 100 });
    await stop(manager);
    expectNothingLeft(world, 'plugin', Object.values(await world.family(world.path('family'))));
    expect(others.every(alive)).toBe(true);
    await stop(manager, 'other');
    expectNothingLeft(world, 'other', others);
  });

  test("killMode 'group' spares those that left the leader's group", async () => {
    const manager = world.manager();
    const marker = world.path('family');
    const leader = await started(manager, ['family.py', marker, 'stubborn', 'willing', 'quiet', 'fled'], {
      killMode: 'group',
      shutdownGracePeriod: 300,
    });
    const family = await world.family(marker);
    world.finally(() => [family.quiet, family.fled].forEach((process) => signal(process, 'SIGKILL')));
    expect(await stop(manager)).toBeLessThan(2_300);
    expectNothingLeft(world, 'plugin', [leader, family.stubborn, family.willing]);
    expect([family.quiet, family.fled].map(alive)).toEqual([true, true]);
    expect(manager.getState('plugin')).toBe('stopped');

    // Nor does the next start take them for an orphan.
    await started(manager);
    expect([family.quiet, family.fled].map(alive)).toEqual([true, true]);
  });

  testOnLinux(
    "killMode 'group': what it spares goes on printing when its owner is gone, and nobody stays to read when it has ended",
    async () => {
      const owner = world.owner('obeys.js', {}, { ipc: true });
      const marker = world.path('family');
      const config = world.config('plugin', ['family.py', marker, 'chatty'], { killMode: 'group', shutdownGracePeriod: 300 });
      expect(await owner.asks('startProcess', config)).toEqual({});
      const { chatty } = await world.family(marker);
      world.finally(() => signal(chatty, 'SIGKILL'));
      expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
      const pipe = fs.readlinkSync(`/proc/${chatty.pid}/fd/1`);
      owner.child.disconnect();
      await owner.exited;

      // Far more than a pipe holds.
      const said = () => (fs.existsSync(`${marker}.chatty`) ? Number(fs.readFileSync(`${marker}.chatty`, 'utf8')) : 0);
      const before = said();
      await until(() => said() > before + 20_000 || !alive(chatty), 30_000);
      expect(alive(chatty)).toBe(true);
      signal(chatty, 'SIGKILL');
      await until(() => holding(pipe).length === 0);
    },
  );
});

/** Who has this pipe open. */
function holding(pipe) {
  const has = (pid) => {
    try {
      return fs.readdirSync(`/proc/${pid}/fd`).some((fd) => fs.readlinkSync(`/proc/${pid}/fd/${fd}`) === pipe);
    } catch {
      return false;
    }
  };
  return fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name) && has(name));
}

describe('while starting', () => {
  test('wins: the start rejects, and nothing is left', async () => {
    const manager = world.manager();
    const events = record(manager);
    const start = watch(manager.startProcess(world.config('plugin', ['never-binds.py'])));
    const daemon = identify(await until(() => manager.getPid('plugin')));
    await stop(manager);
    expectNothingLeft(world, 'plugin', [daemon]);
    expect(manager.getState('plugin')).toBe('stopped');

    const error = await failure(start.promise);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'ERR_STOPPED', pluginName: 'plugin' });
    await until(() => events.states('plugin').includes('stopped'));
    expect(events.states('plugin')).toEqual(['starting', 'stopping', 'stopped']);
  });

  test('in the same turn wins as well', async () => {
    const manager = world.manager();
    const start = watch(manager.startProcess(world.config('plugin')));
    await stop(manager);
    expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
    expect(manager.getState('plugin')).toBe('stopped');
    expectNothingLeft(world, 'plugin');
  });

  test('has the same grace and takes the same tree', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    const start = watch(
      manager.startProcess(
        world.config('plugin', ['family.py', marker, '--never-bind', 'stubborn', 'fled'], {
          shutdownGracePeriod: 300,
        }),
      ),
    );
    const family = Object.values(await world.family(marker));
    const took = await stop(manager);
    expect(took).toBeGreaterThanOrEqual(295);
    expectNothingLeft(world, 'plugin', family);
    expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
  });

  test('and a new start after it succeeds', async () => {
    const manager = world.manager();
    for (let round = 0; round < 5; round++) {
      const start = watch(manager.startProcess(world.config('plugin')));
      await manager.stopProcess('plugin');
      expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
    }
    await started(manager);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(await connects(world.socket('plugin'))).toBe(true);
  });
});

test('several stops at once all settle at the real end', async () => {
  const manager = world.manager();
  const daemon = await started(manager, ['stubborn.py'], { shutdownGracePeriod: 400 });
  const left = await Promise.all(
    Array.from({ length: 8 }, async (_, index) => {
      if (index > 3) await until(() => manager.getState('plugin') === 'stopping');
      await manager.stopProcess('plugin');
      return alive(daemon);
    }),
  );
  expect(left).toEqual(Array(8).fill(false));
  expect(manager.getState('plugin')).toBe('stopped');
});

test('of what is unknown, or already stopped, resolves', async () => {
  const manager = world.manager();
  await stop(manager, 'nobody');
  expect(manager.getState('nobody')).toBeUndefined();

  const events = record(manager);
  await started(manager);
  await stop(manager);
  const before = manager.getProcessInfo('plugin');
  await stop(manager);
  expect(manager.getProcessInfo('plugin')).toEqual(before);
  await until(() => events.states('plugin').length === 4);
});

test('of what has failed leads to stopped, and keeps the error', async () => {
  const manager = world.manager();
  const events = record(manager);
  await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 3, 'no model'])));
  const { lastError } = manager.getProcessInfo('plugin');
  expect(lastError).toBeTruthy();
  await stop(manager);
  expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'stopped', lastError });
  await until(() => events.states('plugin').length === 3);
  expect(events.states('plugin')).toEqual(['starting', 'error', 'stopped']);
});

test('what stopped stays known with its output until it is forgotten', async () => {
  const manager = world.manager();
  expect(manager.forgetProcess('plugin')).toBe(false);

  fs.writeFileSync(world.path('text'), 'hello\n');
  await started(manager, ['prints.py', 1, world.path('text')]);
  await until(() => manager.getOutput('plugin').length === 1);
  expect(manager.forgetProcess('plugin')).toBe(false);
  expect(manager.isRunning('plugin')).toBe(true);

  await stop(manager);
  expect(manager.getState('plugin')).toBe('stopped');
  expect(manager.getOutput('plugin')).toEqual(['hello']);
  expect(manager.listProcesses()).toHaveLength(1);

  expect(manager.forgetProcess('plugin')).toBe(true);
  expect(manager.getState('plugin')).toBeUndefined();
  expect(manager.getProcessInfo('plugin')).toBeUndefined();
  expect(manager.getOutput('plugin')).toEqual([]);
  expect(manager.listProcesses()).toEqual([]);
  expect(manager.forgetProcess('plugin')).toBe(false);

  await started(manager);
  expect(manager.isRunning('plugin')).toBe(true);
});

test('what failed can be forgotten; what is starting or stopping cannot', async () => {
  const manager = world.manager();
  await failure(manager.startProcess(world.config('failed', ['exits.py', '--code', 1])));
  expect(manager.forgetProcess('failed')).toBe(true);
  expect(manager.getState('failed')).toBeUndefined();

  const start = watch(manager.startProcess(world.config('plugin', ['stubborn.py'], { shutdownGracePeriod: 300 })));
  expect(manager.forgetProcess('plugin')).toBe(false);
  await start.promise;
  const stopping = manager.stopProcess('plugin');
  expect(manager.forgetProcess('plugin')).toBe(false);
  await stopping;
  expect(manager.forgetProcess('plugin')).toBe(true);
});

test('can be asked for by a listener', async () => {
  const manager = world.manager();
  const stopped = new Promise((resolve, reject) => {
    manager.on('stateChange', ({ to, pluginName }) => {
      if (to === 'running') manager.stopProcess(pluginName).then(resolve, reject);
    });
  });
  await manager.startProcess(world.config('plugin'));
  await stopped;
  expect(manager.getState('plugin')).toBe('stopped');
  expectNothingLeft(world, 'plugin');
});
