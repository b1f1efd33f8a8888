'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

test('ERR_STARTUP_EXIT: has exitCode and stderr, and comes as soon as the leader exits', async () => {
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
  expect(error.message).toContain('the process exited with code 3 before it was ready');
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

test.each([0, 1, 255])('ERR_STARTUP_EXIT: exitCode is %d', async (code) => {
  const error = await failure(world.manager().startProcess(world.config('plugin', ['exits.py', '--code', code])));
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: code });
  expect(error.message).toContain(`the process exited with code ${code} before it was ready`);
  expect(error.stderr ?? '').toBe('');
});

test.each([
  ['SIGKILL', 9],
  ['SIGSEGV', 11],
  ['SIGABRT', 6],
])('ERR_STARTUP_EXIT: signal is %s', async (signal, number) => {
  const error = await failure(world.manager().startProcess(world.config('plugin', ['exits.py', '--signal', number, 'going'])));
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', signal, stderr: expect.stringContaining('going') });
  expect(error.exitCode).toBeUndefined();
  expect(error.message).toContain(`the process was killed by ${signal} before it was ready`);
  expect(error.message).toContain('going');
});

test('ERR_STARTUP_EXIT: a socket that was bound before the exit is removed', async () => {
  const manager = world.manager();
  const error = await failure(manager.startProcess(world.config('plugin', ['exits.py', '--bind', '--code', 4])));
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 4 });
  expectNothingLeft(world, 'plugin');
});

test('ERR_STARTUP_EXIT: the rest of the tree is gone before the start rejects', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  const start = manager.startProcess(
    world.config('plugin', ['leads-a-tree.py', marker, '--exit', 5, 'stubborn', 'grouped', 'fled', 'willing'], {
      shutdownGracePeriod: 300,
    }),
  );
  const error = await failure(start);
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 5 });
  expect(error.stderr).toContain('the leader exits');
  expectNothingLeft(world, 'plugin', Object.values(await world.tree(marker)));
  // It got SIGTERM before SIGKILL.
  expect(fs.existsSync(`${marker}.willing`)).toBe(true);
});

test('ERR_STARTUP_EXIT: message and stderr have the last lines of many', async () => {
  const lines = Array.from({ length: 300 }, (_, index) => `line ${index}`);
  const error = await failure(world.manager().startProcess(world.config('plugin', ['exits.py', '--code', 1, ...lines])));
  expect(error.message).toContain('line 299');
  expect(error.message).not.toMatch(/line 5\b/);
  expect(error.message.length).toBeLessThan(8_192);
  expect(error.stderr).toContain('line 298\nline 299');
});

test('ERR_STARTUP_EXIT: the message is free of terminal controls, and stderr keeps them', async () => {
  const lines = ['\x1b[31mred\x1b[0m alert', 'bell\x07 back\bspace', 'over\rwritten', '\x1b]0;title\x07done'];
  const manager = world.manager();
  const error = await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1, ...lines])));
  const isControl = (letter) => letter !== '\n' && letter !== '\t' && /\p{Cc}/u.test(letter);
  expect([...error.message].filter(isControl)).toEqual([]);
  expect([...manager.getProcessInfo('plugin').lastError].filter(isControl)).toEqual([]);
  expect(error.message).toContain('alert');
  expect(error.stderr).toContain('\x1b[31mred\x1b[0m alert');
  expect(manager.getOutput('plugin')).toContain('bell\x07 back\bspace');
});

test('message: has the first line that looks like the reason before the last ten lines', async () => {
  const manager = world.manager();
  const script = world.path('requires.js');
  fs.writeFileSync(script, "require('./no-such-module');\n");
  const error = await failure(manager.startProcess({ ...world.config(), command: process.execPath, args: [script] }));
  expect(error.code).toBe('ERR_STARTUP_EXIT');
  expect(error.message).toContain("before it was ready: Error: Cannot find module './no-such-module'");
  expect(error.message).toContain('Node.js v');
  expect(error.stderr).toContain('throw err');
  expect(manager.getProcessInfo('plugin').lastError).toContain('Cannot find module');
});
