'use strict';

const fs = require('node:fs');
const { connects, expectCleared, expectNothingLeft, record, useWorld } = require('./helpers/world');
const { alive, identify } = require('./helpers/processes');
const { failure, until } = require('./helpers/until');

const world = useWorld();

describe('an exit before ready', () => {
  test('is told at once, with the code and the last lines', async () => {
    const manager = world.manager();
    const events = record(manager);
    const began = performance.now();
    const error = await failure(
      manager.startProcess(
        world.config('plugin', [
          'exits.py',
          '--code',
          3,
          '--out',
          'on stdout',
          'loading the model',
          'ModuleNotFoundError: no module named ‘search’',
        ]),
      ),
    );
    expect(performance.now() - began).toBeLessThan(5_000);

    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', pluginName: 'plugin', exitCode: 3 });
    expect(error.signal).toBeUndefined();
    expect(error.message).toMatch(/^Failed to start background process 'plugin': /);
    expect(error.message).toMatch(/\b3\b/);
    expect(error.message).toContain('ModuleNotFoundError: no module named ‘search’');
    expect(error.stderr).toContain('loading the model\nModuleNotFoundError: no module named ‘search’');
    expect(error.stderr).not.toContain('on stdout');

    const info = manager.getProcessInfo('plugin');
    expect(info).toMatchObject({ state: 'error', restartAttempts: 0, totalRestarts: 0, failedHealthChecks: 0 });
    expect(error.message).toContain(info.lastError);
    expect(info.pid).toBeUndefined();
    expect(info.nextRestartAt).toBeUndefined();
    expect(info.lastExit).toMatchObject({ code: 3, reason: 'startup', pid: expect.any(Number) });
    expect(info.lastExit.at).toBeInstanceOf(Date);
    expectNothingLeft(world, 'plugin');

    await until(() => events.states('plugin').length >= 2 && events.of('exit').length >= 1);
    expect(events.states('plugin')).toEqual(['starting', 'error']);
    expect(events.of('exit')).toEqual([expect.objectContaining({ pid: info.lastExit.pid, code: 3, reason: 'startup' })]);
    expect(events.of('restart')).toEqual([]);
  });

  test.each([0, 1, 255])('with code %d', async (code) => {
    const error = await failure(world.manager().startProcess(world.config('plugin', ['exits.py', '--code', code])));
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: code });
    expect(error.message).toMatch(new RegExp(`\\b${code}\\b`));
    expect(error.stderr ?? '').toBe('');
  });

  test.each([
    ['SIGKILL', 9],
    ['SIGSEGV', 11],
    ['SIGABRT', 6],
  ])('by %s', async (signal, number) => {
    const error = await failure(world.manager().startProcess(world.config('plugin', ['exits.py', '--signal', number, 'going'])));
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', signal, stderr: expect.stringContaining('going') });
    expect(error.exitCode).toBeUndefined();
    expect(error.message).toContain(signal);
    expect(error.message).toContain('going');
  });

  test('of a daemon that has bound leaves no socket', async () => {
    const manager = world.manager();
    // With no connection accepted it may have been ready for a moment; then it is a crash, with no attempts.
    const start = manager.startProcess(world.config('plugin', ['exits.py', '--bind', '--code', 4], { restart: { maxAttempts: 0 } }));
    const [outcome] = await Promise.allSettled([start]);
    if (outcome.status === 'rejected') expect(outcome.reason.code).toBe('ERR_STARTUP_EXIT');
    await until(() => manager.getState('plugin') === 'error');
    await expectCleared(world, 'plugin');
  });

  test('takes the rest of the tree along before it is told', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    const start = manager.startProcess(
      world.config('plugin', ['family.py', marker, '--exit', 5, 'stubborn', 'grouped', 'fled', 'willing'], {
        shutdownGracePeriod: 300,
      }),
    );
    const error = await failure(start);
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 5 });
    expect(error.stderr).toContain('the leader goes');
    expectNothingLeft(world, 'plugin', Object.values(await world.family(marker)));
    // It was asked before it was killed.
    expect(fs.existsSync(`${marker}.willing`)).toBe(true);
  });

  test('with many lines brings the last ones', async () => {
    const lines = Array.from({ length: 300 }, (_, index) => `line ${index}`);
    const error = await failure(world.manager().startProcess(world.config('plugin', ['exits.py', '--code', 1, ...lines])));
    expect(error.message).toContain('line 299');
    expect(error.message).not.toMatch(/line 5\b/);
    expect(error.message.length).toBeLessThan(8_192);
    expect(error.stderr).toContain('line 298\nline 299');
  });

  test('with terminal controls in its output brings a clean message and the lines as they were', async () => {
    const lines = ['\x1b[31mred\x1b[0m alert', 'bell\x07 back\bspace', 'over\rwritten', '\x1b]0;title\x07done'];
    const manager = world.manager();
    const error = await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1, ...lines])));
    const readable = /[\0-\x08\x0b-\x1f\x7f-\x9f]/;
    expect(error.message).not.toMatch(readable);
    expect(manager.getProcessInfo('plugin').lastError).not.toMatch(readable);
    expect(error.message).toContain('alert');
    expect(error.stderr).toContain('\x1b[31mred\x1b[0m alert');
    expect(manager.getOutput('plugin')).toContain('bell\x07 back\bspace');
  });
});

describe('out of time', () => {
  const timeouts = { startupTimeout: 600, shutdownGracePeriod: 400 };

  test('is told in words that callers match', async () => {
    const manager = world.manager();
    const events = record(manager);
    const began = performance.now();
    const start = manager.startProcess(world.config('plugin', ['never-binds.py', 'looking for the model'], timeouts));
    const daemon = identify(await until(() => manager.getPid('plugin')));
    const error = await failure(start);

    expect(performance.now() - began).toBeGreaterThanOrEqual(595);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'ERR_STARTUP_TIMEOUT', pluginName: 'plugin' });
    expect(
      error.message.startsWith(`Failed to start background process 'plugin': Timeout waiting for socket: ${world.socket('plugin')}`),
    ).toBe(true);
    expect(error.stderr).toContain('looking for the model');
    expectNothingLeft(world, 'plugin', [daemon]);

    const info = manager.getProcessInfo('plugin');
    expect(info.state).toBe('error');
    expect(info.pid).toBeUndefined();
    expect(info.lastError).toContain('Timeout waiting for socket');
    expect(info.lastExit).toMatchObject({ pid: daemon.pid, reason: 'startup' });
    await until(() => events.states('plugin').includes('error'));
    expect(events.states('plugin')).toEqual(['starting', 'error']);
  });

  test.each([
    ['binds and never listens', ['binds-only.py'], 'nobody listens on it', {}],
    ['listens somewhere else', () => ['ignores-path.py', world.path('elsewhere.sock')], 'there is no such file', {}],
    ['never accepts, where that is asked for', ['hung.py', '5'], 'the connection was not accepted', { readiness: { type: 'accept' } }],
  ])('a daemon that %s', async (_, fixture, reason, options) => {
    const manager = world.manager();
    const start = manager.startProcess(
      world.config('plugin', typeof fixture === 'function' ? fixture() : fixture, { ...timeouts, ...options }),
    );
    const daemon = identify(await until(() => manager.getPid('plugin')));
    const error = await failure(start);
    expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
    expect(error.message).toContain(`(not ready within 600 ms: ${reason})`);
    expectNothingLeft(world, 'plugin', [daemon]);
  });

  test('the whole tree is gone when it is told', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    const start = manager.startProcess(
      world.config('plugin', ['family.py', marker, '--never-bind', 'stubborn', 'fled', 'grouped'], {
        startupTimeout: 1_500,
        shutdownGracePeriod: 300,
      }),
    );
    const family = Object.values(await world.family(marker));
    expect(family).toHaveLength(3);
    expect(family.every(alive)).toBe(true);
    const leader = identify(manager.getPid('plugin'));
    expect((await failure(start)).code).toBe('ERR_STARTUP_TIMEOUT');
    expectNothingLeft(world, 'plugin', [leader, ...family]);
  });

  test('has no second start and no pending restart', async () => {
    const manager = world.manager();
    const counter = world.path('starts');
    await failure(manager.startProcess(world.config('plugin', ['by-turns.py', counter, 'never'], { ...timeouts, restart: { delay: 0 } })));
    expect(manager.getProcessInfo('plugin')).toMatchObject({ state: 'error', totalRestarts: 0, restartAttempts: 0 });
    // Something that would come after a restart without delay.
    await manager.startProcess(world.config('other'));
    expect(fs.readFileSync(counter, 'utf8')).toBe('1');
    expect(manager.getState('plugin')).toBe('error');
  });
});

test('what failed can be started again, and success clears the error', async () => {
  const manager = world.manager();
  const config = world.config('plugin', ['by-turns.py', world.path('starts'), 'refuse', 'refuse', 'good']);
  for (let round = 1; round <= 2; round++) {
    const error = await failure(manager.startProcess(config));
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3 });
    expect(error.message).toContain(`refused at start ${round}`);
    expect(manager.getProcessInfo('plugin').lastError).toContain(`refused at start ${round}`);
    // Its own lines, not those of the process before it.
    if (round === 2) expect(error.message + error.stderr).not.toContain('refused at start 1');
  }
  await manager.startProcess(config);
  const info = manager.getProcessInfo('plugin');
  expect(info.state).toBe('running');
  expect(info.lastError).toBeUndefined();
  expect(info.lastExit).toMatchObject({ code: 3, reason: 'startup' });
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('what a failed start printed stays to be read', async () => {
  const manager = world.manager();
  await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1, '--out', 'first', 'second'])));
  expect(manager.getOutput('plugin').sort()).toEqual(['first', 'second']);
});

test('a failed start disturbs no other plugin', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('other'));
  const pid = manager.getPid('other');
  await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1])));
  expect(manager.getPid('other')).toBe(pid);
  expect(manager.isRunning('other')).toBe(true);
  expect(await connects(world.socket('other'))).toBe(true);
});

test('lastStateChange follows the states', async () => {
  const manager = world.manager();
  const before = Date.now();
  await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1])));
  const { lastStateChange } = manager.getProcessInfo('plugin');
  expect(lastStateChange).toBeInstanceOf(Date);
  expect(lastStateChange.getTime()).toBeGreaterThanOrEqual(before - 1);
  expect(lastStateChange.getTime()).toBeLessThanOrEqual(Date.now() + 1);
});
