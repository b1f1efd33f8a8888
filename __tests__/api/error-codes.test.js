'use strict';

// One test for each code of ManagerErrorCode that this version can reject with, and what the error carries.
// ERR_STOP_FAILED: faults/users.test.js. ERR_UNHEALTHY: start/when-running.test.js.
// ERR_DEPENDENCY and ERR_UPGRADE: not built yet.

const fs = require('node:fs');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { testOnLinux } = require('../helpers/needs');
const { copyPackage } = require('../helpers/package-copy');
const { signal, identify, stat } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

/** What an error carries beside its text. */
const parts = (error) => {
  expect(error).toBeInstanceOf(Error);
  return { ...error };
};

const refused = async (changes, manager = world.manager()) => parts(await failure(manager.startProcess({ ...world.config(), ...changes })));

test('ERR_INVALID_CONFIG: pluginName', async () => {
  expect(await refused({ args: 7 })).toEqual({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin' });
});

test('ERR_ALREADY_RUNNING: pluginName', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  expect(await refused({}, manager)).toEqual({ code: 'ERR_ALREADY_RUNNING', pluginName: 'plugin' });
});

test('ERR_SHUTTING_DOWN: pluginName', async () => {
  const manager = world.manager();
  await manager.stopAllProcesses();
  expect(await refused({}, manager)).toEqual({ code: 'ERR_SHUTTING_DOWN', pluginName: 'plugin' });
});

test("ERR_OWNED_ELSEWHERE: the owner's pid", async () => {
  await world.manager().startProcess(world.config());
  expect(await refused({})).toEqual({ code: 'ERR_OWNED_ELSEWHERE', pluginName: 'plugin', pid: process.pid });
});

test('ERR_SOCKET_IN_USE: the pid of who listens', async () => {
  const socketPath = world.path('program.sock');
  const program = world.program(['serves.py'], { socketPath });
  await until(() => fs.existsSync(socketPath));
  expect(await refused({ socketPath })).toEqual({ code: 'ERR_SOCKET_IN_USE', pluginName: 'plugin', pid: program.pid });
});

test.each([
  ['a program that is missing', () => ({ command: '/no/such' }), 'ENOENT', 'execve', () => '/no/such'],
  ['a bare command that is missing', () => ({ command: 'no-such-program' }), 'ENOENT', 'execve', () => 'no-such-program'],
  ['a folder for a program', () => ({ command: world.pluginPath }), 'EACCES', 'execve', () => world.pluginPath],
  ['a folder that is missing', () => ({ pluginPath: '/no/such/folder' }), 'ENOENT', 'chdir', () => '/no/such/folder'],
])('ERR_SPAWN: errno, syscall and path of %s', async (_, changes, errno, syscall, where) => {
  expect(await refused(changes())).toEqual({ code: 'ERR_SPAWN', pluginName: 'plugin', errno, syscall, path: where() });
});

test('ERR_SPAWN: arguments that are too long', async () => {
  const error = await refused({ args: ['x'.repeat(20 << 20)] });
  expect(error).toMatchObject({ code: 'ERR_SPAWN', errno: 'E2BIG', syscall: 'spawn' });
});

test('ERR_STARTUP_EXIT: exit code and last lines', async () => {
  const { args } = world.config('plugin', ['exits.py', '--code', 3, 'the reason']);
  expect(await refused({ args })).toEqual({ code: 'ERR_STARTUP_EXIT', pluginName: 'plugin', exitCode: 3, stderr: 'the reason' });
});

test('ERR_STARTUP_EXIT: the name of a signal', async () => {
  const { args } = world.config('plugin', ['exits.py', '--signal', 9]);
  expect(await refused({ args })).toEqual({ code: 'ERR_STARTUP_EXIT', pluginName: 'plugin', signal: 'SIGKILL' });
});

test('ERR_STARTUP_TIMEOUT: last lines', async () => {
  const { args } = world.config('plugin', ['exits.py', '--after', 60_000, 'still busy']);
  const error = await refused({ args, startupTimeout: 1_500 });
  expect(error).toEqual({ code: 'ERR_STARTUP_TIMEOUT', pluginName: 'plugin', stderr: 'still busy' });
});

test('ERR_STOPPED: pluginName', async () => {
  const manager = world.manager();
  const { args } = world.config('plugin', ['exits.py', '--after', 60_000]);
  const start = failure(manager.startProcess({ ...world.config(), args }));
  await manager.stopProcess('plugin');
  expect(parts(await start)).toEqual({ code: 'ERR_STOPPED', pluginName: 'plugin' });
});

test('ERR_NOT_FOUND: pluginName', async () => {
  expect(parts(await failure(world.manager().restartProcess('nobody')))).toEqual({ code: 'ERR_NOT_FOUND', pluginName: 'nobody' });
});

describe('ERR_IO', () => {
  test('errno and path of a folder in the place of a file', async () => {
    const pidFile = path.join(world.makeFolder('plugin'), 'daemon.pid');
    fs.mkdirSync(pidFile);
    expect(await refused({})).toEqual({ code: 'ERR_IO', pluginName: 'plugin', errno: 'EISDIR', path: pidFile });
  });

  test('errno, syscall and path of what the system refused', async () => {
    fs.writeFileSync(world.path('file'), '');
    const envsDir = world.path('file', 'envs');
    const error = await refused({}, world.manager({ envsDir }));
    expect(error).toEqual({ code: 'ERR_IO', pluginName: 'plugin', errno: 'ENOTDIR', syscall: 'mkdir', path: envsDir });
  });

  test('path of what is not as it must be', async () => {
    const lock = path.join(world.makeFolder('plugin'), 'daemon.lock');
    fs.symlinkSync('/dev/null', lock);
    expect(await refused({})).toEqual({ code: 'ERR_IO', pluginName: 'plugin', path: lock });
  });

  testOnLinux('cause, when a file of a daemon that is gone stays', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config());
    const pidFile = world.pidFile('plugin');
    fs.rmSync(pidFile);
    fs.mkdirSync(pidFile);
    const error = await failure(manager.stopProcess('plugin'));
    fs.rmdirSync(pidFile);
    const told = { code: 'ERR_IO', pluginName: 'plugin', errno: 'EISDIR', syscall: 'unlink', path: pidFile };
    expect(parts(error)).toEqual(told);
    expect(error.cause).toBeInstanceOf(Error);
    expect(parts(error.cause)).toEqual(told);
    expect(error.message).toBe(`Failed to stop background process 'plugin': it is gone, but a file of it stays: ${error.cause.message}`);
    expect(Object.keys(error)).not.toContain('cause');
    expectNothingLeft(world, 'plugin');
  });
});

testOnLinux('ERR_INTERNAL: the keeper is lost while the daemon starts', async () => {
  const manager = world.manager();
  const { args } = world.config('plugin', ['exits.py', '--after', 60_000]);
  const start = failure(manager.startProcess({ ...world.config(), args }));
  const pid = await until(() => manager.getPid('plugin'));
  signal(identify(stat(pid).ppid), 'SIGKILL');
  const error = await start;
  expect(parts(error)).toEqual({ code: 'ERR_INTERNAL', pluginName: 'plugin' });
  expect(error.message).toBe("Failed to start background process 'plugin': the process ended before it was ready");
});

describe('a package that is not whole', () => {
  /** Loads the package in a program of its own, starts, and says what came of it. */
  const inProgram = (folder) => {
    const code = `
      const tell = (error) => console.log(JSON.stringify({ ...error, message: error.message, isError: error instanceof Error }));
      try {
        const { BackgroundProcessManager } = require(${JSON.stringify(folder)});
        const manager = new BackgroundProcessManager({ envsDir: ${JSON.stringify(world.envsDir)} });
        manager.startProcess(${JSON.stringify(world.config())}).then(() => manager.stopAllProcesses(), tell);
      } catch (error) {
        tell(error);
      }`;
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8', timeout: 20_000 });
    expect(stderr).toBe('');
    return stdout === '' ? undefined : JSON.parse(stdout);
  };

  test.each([
    ['is missing', (file) => fs.rmSync(file), 'ENOENT'],
    ['may not be run', (file) => fs.chmodSync(file, 0o644), 'EACCES'],
    ['is no program', (file) => fs.writeFileSync(file, 'no program\n'), 'ENOEXEC'],
  ])('ERR_UNSUPPORTED: the path of a guardian that %s', (_, harm, errno) => {
    const { copy, guardian } = copyPackage(world);
    harm(guardian);
    const error = inProgram(copy);
    expect(error).toMatchObject({ isError: true, code: 'ERR_UNSUPPORTED', errno, syscall: 'spawn', path: guardian, pluginName: 'plugin' });
    expect(error.message).toMatch(`Failed to start background process 'plugin': the guardian ${guardian} can't be started: ${errno}: `);
  });

  test('ERR_INTERNAL: a guardian that ends at once, each time', () => {
    const { copy, guardian } = copyPackage(world);
    fs.writeFileSync(guardian, '#!/bin/sh\nexit 0\n');
    const error = inProgram(copy);
    expect(error).toMatchObject({ isError: true, code: 'ERR_INTERNAL', pluginName: 'plugin' });
    expect(error.message).toContain('guardian');
  });

  test('ERR_UNSUPPORTED: no addon', () => {
    const { copy, guardian } = copyPackage(world);
    const addon = path.join(path.dirname(guardian), 'ally.node');
    fs.rmSync(addon);
    const error = inProgram(copy);
    expect(error).toMatchObject({ isError: true, code: 'ERR_UNSUPPORTED', pluginName: 'plugin', path: addon });
    expect(error.message).toContain(`no addon for ${process.platform}-${process.arch} could be loaded`);
  });
});
