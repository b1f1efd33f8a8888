'use strict';

const fs = require('node:fs');
const { connects, expectCleared, expectNothingLeft, record, useWorld } = require('./helpers/world');
const { alive, identify } = require('./helpers/processes');
const { failure, until } = require('./helpers/until');

const world = useWorld();

const EXACT = { jitter: 0 };

/** Kills the leader, and waits until the manager has seen it. */
async function crash(manager, name = 'plugin') {
  const daemon = identify(manager.getPid(name));
  process.kill(daemon.pid, 'SIGKILL');
  await until(() => manager.getPid(name) !== daemon.pid, 5_000, 'the crash is seen');
  return daemon;
}

const runningAgain = (manager, old, name = 'plugin') =>
  until(() => manager.getPid(name) !== old.pid && manager.isRunning(name), 15_000, 'it runs again');

const starts = (counter) => Number(fs.readFileSync(counter, 'utf8'));

describe('after a crash', () => {
  test('the plugin is starting, and says when', async () => {
    const manager = world.manager();
    const events = record(manager);
    await manager.startProcess(world.config('plugin', ['willing.py'], { restart: { ...EXACT, delay: 1_200 } }));
    const before = Date.now();
    const daemon = await crash(manager);
    const seen = Date.now();

    expect(manager.isRunning('plugin')).toBe(false);
    expect(manager.getState('plugin')).toBe('starting');
    expect(manager.getPid('plugin')).toBeUndefined();
    const info = manager.getProcessInfo('plugin');
    expect(info).toMatchObject({
      state: 'starting',
      restartAttempts: 1,
      lastExit: { pid: daemon.pid, signal: 'SIGKILL', reason: 'crashed' },
    });
    expect(info.pid).toBeUndefined();
    expect(info.uptime).toBeUndefined();
    expect(info.lastExit.at).toBeInstanceOf(Date);
    expect(info.nextRestartAt).toBeInstanceOf(Date);
    // Counted from the crash.
    expect(info.nextRestartAt.getTime()).toBeGreaterThanOrEqual(before + 1_195);
    expect(info.nextRestartAt.getTime()).toBeLessThanOrEqual(seen + 1_205);

    await runningAgain(manager, daemon);
    expect(Date.now()).toBeGreaterThanOrEqual(before + 1_195);
    const after = manager.getProcessInfo('plugin');
    expect(after).toMatchObject({ state: 'running', restartAttempts: 0, totalRestarts: 1, lastExit: { pid: daemon.pid } });
    expect(after.nextRestartAt).toBeUndefined();
    expect(await connects(world.socket('plugin'))).toBe(true);

    await until(() => events.states('plugin').length === 4);
    expect(events.states('plugin')).toEqual(['starting', 'running', 'starting', 'running']);
    expect(events.of('exit')).toEqual([expect.objectContaining({ pid: daemon.pid, signal: 'SIGKILL', reason: 'crashed' })]);
    expect(events.of('restart')).toEqual([expect.objectContaining({ pluginName: 'plugin', attempt: 1, delay: 1_200, reason: 'crashed' })]);
  });

  test('it is seen when it happens, not at the next check', async () => {
    const manager = world.manager();
    await manager.startProcess(
      world.config('plugin', ['willing.py'], {
        restart: { ...EXACT, delay: 5_000 },
        healthcheck: { interval: 30_000, timeout: 5_000, retries: 3 },
      }),
    );
    const exit = new Promise((resolve) => manager.once('exit', resolve));
    const began = performance.now();
    process.kill(manager.getPid('plugin'), 'SIGKILL');
    await exit;
    expect(performance.now() - began).toBeLessThan(500);
    expect(manager.isRunning('plugin')).toBe(false);
  });

  test('without a delay it runs again soon, time after time', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { restart: { delay: 0 } }));
    const began = performance.now();
    for (let round = 1; round <= 5; round++) {
      await runningAgain(manager, await crash(manager));
      // More than the three attempts of the default, because each of them was a success.
      expect(manager.getProcessInfo('plugin')).toMatchObject({ restartAttempts: 0, totalRestarts: round });
    }
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  test('an exit with a code is a crash as well', async () => {
    const manager = world.manager();
    const events = record(manager);
    const counter = world.path('starts');
    await manager.startProcess(world.config('plugin', ['by-turns.py', counter, 'brief', 'good'], { restart: { delay: 0 } }));
    fs.writeFileSync(`${counter}.go`, '');
    await until(() => starts(counter) === 2 && manager.isRunning('plugin'));
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 4, reason: 'crashed' });
    expect(events.of('restart')[0]).toMatchObject({ attempt: 1, reason: 'crashed' });
  });

  test('what is left of the tree goes before the next one comes', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    await manager.startProcess(
      world.config('plugin', ['family.py', marker, 'stubborn', 'fled', 'willing'], {
        restart: { delay: 0 },
        shutdownGracePeriod: 400,
      }),
    );
    const family = await world.family(marker);
    let overlap = false;
    const daemon = await crash(manager);
    await until(() => {
      if (manager.getPid('plugin') !== undefined) overlap ||= Object.values(family).some(alive);
      return manager.isRunning('plugin');
    });
    expect(overlap).toBe(false);
    expect(Object.values(family).filter(alive)).toEqual([]);
    expect(manager.getPid('plugin')).not.toBe(daemon.pid);
    expect(fs.existsSync(`${marker}.willing`)).toBe(true);
  });

  test('the configuration is the one of the start, whatever became of the object', async () => {
    const manager = world.manager();
    const config = world.config('plugin', ['willing.py'], { restart: { delay: 0 }, envVars: { A: '1' } });
    await manager.startProcess(config);
    config.command = '/no/such';
    config.args.splice(0, 5, '/no/such');
    config.envVars.A = '2';
    config.restart.maxAttempts = 0;
    const daemon = await crash(manager);
    await runningAgain(manager, daemon);
    expect(manager.getProcessInfo('plugin').config.command).not.toBe('/no/such');
  });

  test("the plugin's folder may be another one by then: its files and its lock are in the new one", async () => {
    const [manager, other] = [world.manager(), world.manager()];
    const config = world.config('plugin', ['willing.py'], { restart: { delay: 0 }, socketPath: world.path('s') });
    await manager.startProcess(config);
    // As an installation does it.
    fs.rmSync(world.folder('plugin'), { recursive: true });
    world.makeFolder('plugin');
    await runningAgain(manager, await crash(manager));

    const pid = manager.getPid('plugin');
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
    expect(fs.readFileSync(`${world.folder('plugin')}/daemon.id`, 'utf8')).toContain(`pid ${pid}\n`);
    expect(await failure(other.startProcess(config))).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: process.pid });
    expect(manager.getPid('plugin')).toBe(pid);
    await manager.stopProcess('plugin');
    await other.startProcess(config);
    expect(other.isRunning('plugin')).toBe(true);
  });

  test('with the defaults the delay is five seconds, more or less', async () => {
    const manager = world.manager();
    const events = record(manager);
    await manager.startProcess(world.config());
    await crash(manager);
    await until(() => events.of('restart').length === 1);
    const [{ delay, attempt }] = events.of('restart');
    expect(attempt).toBe(1);
    expect(delay).toBeGreaterThanOrEqual(4_500);
    expect(delay).toBeLessThanOrEqual(5_500);
    // No need to wait for it.
    await manager.stopProcess('plugin');
    expect(manager.getState('plugin')).toBe('stopped');
  });
});

describe('the delays', () => {
  /** Those of the attempts until the manager gives up. */
  async function delays(restart) {
    const manager = world.manager();
    const events = record(manager);
    await manager.startProcess(world.config('plugin', ['by-turns.py', world.path('starts'), 'good', 'refuse'], { restart }));
    await crash(manager);
    await until(() => manager.getState('plugin') === 'error');
    await until(() => events.states('plugin').includes('error'));
    const all = events.of('restart');
    expect(all.map(({ attempt }) => attempt)).toEqual(all.map((_, index) => index + 1));
    return all.map(({ delay }) => delay);
  }

  test.each([
    ['grow by the factor up to the maximum', { ...EXACT, maxAttempts: 5, delay: 20, factor: 2, maxDelay: 100 }, [20, 40, 80, 100, 100]],
    ['take another factor', { ...EXACT, maxAttempts: 3, delay: 10, factor: 3 }, [10, 30, 90]],
    ['double by default', { ...EXACT, maxAttempts: 4, delay: 15, backoff: 'exponential' }, [15, 30, 60, 120]],
    ['grow by steps', { ...EXACT, maxAttempts: 4, delay: 25, backoff: 'linear', maxDelay: 80 }, [25, 50, 75, 80]],
    ['stay the same', { ...EXACT, maxAttempts: 3, delay: 30, backoff: 'constant' }, [30, 30, 30]],
    ['are none', { ...EXACT, maxAttempts: 3, delay: 0 }, [0, 0, 0]],
  ])('%s', async (_, restart, expected) => {
    expect(await delays(restart)).toEqual(expected);
  });

  test('are spread by the jitter', async () => {
    const spread = await delays({ maxAttempts: 8, delay: 40, backoff: 'constant', jitter: 0.5 });
    expect(spread).toHaveLength(8);
    for (const delay of spread) {
      expect(delay).toBeGreaterThanOrEqual(20);
      expect(delay).toBeLessThanOrEqual(60);
    }
    expect(new Set(spread).size).toBeGreaterThan(1);
  });
});

describe('giving up', () => {
  test('comes when the attempts are exhausted, and says so with the last failure', async () => {
    const manager = world.manager();
    const events = record(manager);
    const counter = world.path('starts');
    await manager.startProcess(
      world.config('plugin', ['by-turns.py', counter, 'good', 'refuse'], {
        restart: { ...EXACT, maxAttempts: 2, delay: 10 },
      }),
    );
    await crash(manager);
    await until(() => manager.getState('plugin') === 'error');
    expect(starts(counter)).toBe(3);

    const info = manager.getProcessInfo('plugin');
    expect(info.lastError).toContain('Maximum restart attempts exceeded');
    expect(info.lastError).toContain('refused at start 3');
    expect(info.lastError).not.toContain('refused at start 2');
    expect(info.lastExit).toMatchObject({ code: 3 });
    expect(info.nextRestartAt).toBeUndefined();
    expect(info.pid).toBeUndefined();
    await expectCleared(world, 'plugin');
    await until(() => events.states('plugin').includes('error'));
    const states = events.states('plugin');
    expect(states.at(-1)).toBe('error');
    // No state follows itself.
    expect(states.filter((state, index) => state === states[index - 1])).toEqual([]);

    // Until somebody asks again: then everything counts from the beginning.
    fs.rmSync(counter);
    await manager.startProcess(manager.getProcessInfo('plugin').config);
    expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'running', restartAttempts: 0 });
    expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
  });

  test('counts a restart that is not ready in time', async () => {
    const manager = world.manager();
    const counter = world.path('starts');
    await manager.startProcess(
      world.config('plugin', ['by-turns.py', counter, 'good', 'never', 'never', 'good'], {
        restart: { ...EXACT, maxAttempts: 2, delay: 0 },
        startupTimeout: 700,
      }),
    );
    await crash(manager);
    await until(() => manager.getState('plugin') === 'error');
    expect(starts(counter)).toBe(3);
    const { lastError } = manager.getProcessInfo('plugin');
    expect(lastError).toContain('Maximum restart attempts exceeded');
    expect(lastError).toContain('Timeout waiting for socket');
    await expectCleared(world, 'plugin');
  });

  test('does not come when an attempt in between succeeds', async () => {
    const manager = world.manager();
    const events = record(manager);
    const counter = world.path('starts');
    await manager.startProcess(
      world.config('plugin', ['by-turns.py', counter, 'good', 'refuse', 'refuse', 'good', 'refuse', 'refuse', 'good'], {
        restart: { ...EXACT, maxAttempts: 3, delay: 5, backoff: 'constant' },
      }),
    );
    for (const expected of [4, 7]) {
      await crash(manager);
      await until(() => starts(counter) === expected && manager.isRunning('plugin'));
      expect(manager.getProcessInfo('plugin').restartAttempts).toBe(0);
    }
    await until(() => events.of('restart').length === 6);
    expect(events.of('restart').map(({ attempt }) => attempt)).toEqual([1, 2, 3, 1, 2, 3]);
  });

  test('is immediate where restarting is off, and says what happened', async () => {
    const manager = world.manager();
    const events = record(manager);
    await manager.startProcess(world.config('plugin', ['willing.py'], { restart: { maxAttempts: 0 } }));
    await crash(manager);
    await until(() => manager.getState('plugin') === 'error');
    const info = manager.getProcessInfo('plugin');
    expect(info.lastError).toContain('SIGKILL');
    expect(info).toMatchObject({ restartAttempts: 0, totalRestarts: 0, lastExit: { signal: 'SIGKILL', reason: 'crashed' } });
    expect(events.of('restart')).toEqual([]);
    await until(() => events.states('plugin').length === 3);
    expect(events.states('plugin')).toEqual(['starting', 'running', 'error']);
    await expectCleared(world, 'plugin');
  });

  test('comes past the window, though every restart succeeded', async () => {
    const manager = world.manager();
    const events = record(manager);
    await manager.startProcess(
      world.config('plugin', ['willing.py'], {
        restart: { delay: 0, maxAttempts: 100, window: { limit: 2, period: 60_000 } },
      }),
    );
    for (let round = 0; round < 2; round++) await runningAgain(manager, await crash(manager));
    await crash(manager);
    await until(() => manager.getState('plugin') === 'error');
    expect(manager.getProcessInfo('plugin')).toMatchObject({ totalRestarts: 2 });
    expect(manager.getProcessInfo('plugin').lastError).toMatch(/2 restarts|restart.*(window|limit|within|60)/i);
    expect(events.of('restart')).toHaveLength(2);
    await expectCleared(world, 'plugin');
  });

  test('does not come when the window has passed', async () => {
    const manager = world.manager();
    await manager.startProcess(
      world.config('plugin', ['willing.py'], {
        restart: { delay: 0, window: { limit: 1, period: 200 } },
      }),
    );
    for (let round = 1; round <= 3; round++) {
      const daemon = await crash(manager);
      await runningAgain(manager, daemon);
      const since = performance.now();
      await until(() => performance.now() - since > 300);
      expect(manager.getProcessInfo('plugin').totalRestarts).toBe(round);
    }
  });
});

describe("on: 'failure'", () => {
  const config = (code) =>
    world.config('plugin', ['exits.py', '--bind', '--after', 500, '--code', code], {
      restart: { delay: 30_000, on: 'failure' },
    });

  test('an exit with 0 is the end', async () => {
    const manager = world.manager();
    const events = record(manager);
    await manager.startProcess(config(0));
    await until(() => manager.getState('plugin') === 'stopped');
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'exited' });
    expect(manager.getProcessInfo('plugin').nextRestartAt).toBeUndefined();
    await until(() => events.states('plugin').length === 3);
    expect(events.states('plugin')).toEqual(['starting', 'running', 'stopped']);
    expect(events.of('stateChange').at(-1).reason).toBe('exited');
    expect(events.of('exit')).toEqual([expect.objectContaining({ code: 0, reason: 'exited' })]);
    expect(events.of('restart')).toEqual([]);
    await expectCleared(world, 'plugin');
  });

  test('another code is not', async () => {
    const manager = world.manager();
    await manager.startProcess(config(1));
    await until(() => manager.getProcessInfo('plugin').nextRestartAt);
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 1, reason: 'crashed' });
  });

  test('without it, an exit with 0 that nobody asked for is restarted', async () => {
    const manager = world.manager();
    await manager.startProcess({ ...config(0), restart: { delay: 0 } });
    await until(() => manager.getProcessInfo('plugin').totalRestarts >= 1);
    expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'exited' });
  });
});

describe('while a restart is pending', () => {
  async function pending(manager, delay) {
    const counter = world.path('starts');
    await manager.startProcess(world.config('plugin', ['by-turns.py', counter, 'good'], { restart: { ...EXACT, delay } }));
    await crash(manager);
    await until(() => manager.getProcessInfo('plugin').nextRestartAt);
    return counter;
  }

  test('a stop puts it off for good', async () => {
    const manager = world.manager();
    const events = record(manager);
    const counter = await pending(manager, 300);
    const { nextRestartAt } = manager.getProcessInfo('plugin');
    await manager.stopProcess('plugin');
    expect(manager.getState('plugin')).toBe('stopped');
    expect(manager.getProcessInfo('plugin').nextRestartAt).toBeUndefined();
    expectNothingLeft(world, 'plugin');

    await until(() => Date.now() > nextRestartAt.getTime() + 200);
    expect(starts(counter)).toBe(1);
    expect(manager.getState('plugin')).toBe('stopped');
    expect(events.states('plugin').slice(0, 3)).toEqual(['starting', 'running', 'starting']);
    expect(events.states('plugin').at(-1)).toBe('stopped');
  });

  test('a start is refused as starting', async () => {
    const manager = world.manager();
    await pending(manager, 20_000);
    const error = await failure(manager.startProcess(world.config()));
    expect(error).toMatchObject({ code: 'ERR_ALREADY_RUNNING', pluginName: 'plugin' });
    expect(error.message).toContain('already starting');
  });

  test('restartProcess does not wait for it', async () => {
    const manager = world.manager();
    const counter = await pending(manager, 20_000);
    await manager.restartProcess('plugin');
    expect(manager.isRunning('plugin')).toBe(true);
    expect(starts(counter)).toBe(2);
    expect(manager.getProcessInfo('plugin').nextRestartAt).toBeUndefined();
  });
});

describe('restartProcess', () => {
  test('stops and starts with the same configuration, and counts as no attempt', async () => {
    const manager = world.manager();
    const events = record(manager);
    const config = world.config('plugin', ['willing.py'], { envVars: { A: '1' } });
    await manager.startProcess(config);
    const daemon = identify(manager.getPid('plugin'));

    await expect(manager.restartProcess('plugin')).resolves.toBeUndefined();
    expect(alive(daemon)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
    const info = manager.getProcessInfo('plugin');
    expect(info).toMatchObject({ restartAttempts: 0, config, lastExit: { pid: daemon.pid, code: 0, reason: 'stopped' } });
    expect(info.pid).not.toBe(daemon.pid);
    expect(await connects(world.socket('plugin'))).toBe(true);

    await until(() => events.states('plugin').length === 6);
    expect(events.states('plugin')).toEqual(['starting', 'running', 'stopping', 'stopped', 'starting', 'running']);
    expect(events.of('restart').filter(({ attempt }) => attempt > 0)).toEqual([]);
  });

  test('starts what is stopped, and what has failed', async () => {
    const manager = world.manager();
    const config = world.config('plugin', ['by-turns.py', world.path('starts'), 'refuse', 'good']);
    await failure(manager.startProcess(config));
    await manager.restartProcess('plugin');
    expect(manager.isRunning('plugin')).toBe(true);
    await manager.stopProcess('plugin');
    await manager.restartProcess('plugin');
    expect(manager.isRunning('plugin')).toBe(true);
    expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
  });

  test('that fails is told as a start that fails', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['by-turns.py', world.path('starts'), 'good', 'refuse']));
    const error = await failure(manager.restartProcess('plugin'));
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3, pluginName: 'plugin' });
    expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'error', totalRestarts: 0 });
    expectNothingLeft(world, 'plugin');
  });

  test('knows no stranger', async () => {
    const error = await failure(world.manager().restartProcess('nobody'));
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'ERR_NOT_FOUND', pluginName: 'nobody' });
  });
});
