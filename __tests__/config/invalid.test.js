'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { record } = require('../helpers/events');
const { ROOT } = require('../helpers/needs');
const { children } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { useWorld } = require('../helpers/use-world');
const { SECRET_ARGUMENT, SECRET_VALUE, expectProblem, healthcheck, without } = require('./samples');

const world = useWorld();

/** The fault, the change that makes it, and the field that the message must name. */
const cases = [
  ['no configuration', () => undefined, 'config'],
  ['null', () => null, 'config'],
  ['a text for a configuration', () => 'plugin', 'config'],
  ['a number for a configuration', () => 7, 'config'],
  ['an empty object', () => ({}), 'pluginName'],

  ['no pluginName', without('pluginName'), 'pluginName'],
  ['a pluginName that is a number', { pluginName: 7 }, 'pluginName'],
  ['a pluginName that is null', { pluginName: null }, 'pluginName'],
  ['an empty pluginName', { pluginName: '' }, 'pluginName'],
  ['a pluginName of 256 bytes', { pluginName: 'n'.repeat(256) }, 'pluginName'],
  ['a pluginName of 128 letters in 256 bytes', { pluginName: 'ö'.repeat(128) }, 'pluginName'],
  ['the pluginName .', { pluginName: '.' }, 'pluginName'],
  ['the pluginName ..', { pluginName: '..' }, 'pluginName'],
  ['a pluginName with a slash', { pluginName: 'a/b' }, 'pluginName'],
  ['a pluginName with U+FFFD', { pluginName: 'a\ufffd' }, 'pluginName'],
  ['a pluginName that climbs', { pluginName: '../../etc' }, 'pluginName'],
  ['a pluginName with NUL', { pluginName: 'a\0b' }, 'pluginName'],

  ['no pluginPath', without('pluginPath'), 'pluginPath'],
  ['a relative pluginPath', { pluginPath: 'plugins/a' }, 'pluginPath'],
  ['a pluginPath that is not a text', { pluginPath: ['/tmp'] }, 'pluginPath'],
  ['an empty pluginPath', { pluginPath: '' }, 'pluginPath'],
  ['a pluginPath with NUL', { pluginPath: '/tmp\0/a' }, 'pluginPath'],

  ['no command', without('command'), 'command'],
  ['an empty command', { command: '' }, 'command'],
  ['a command that is not a text', { command: {} }, 'command'],
  ['a command with NUL', { command: '/bin/true\0' }, 'command'],

  ['no args', without('args'), 'args'],
  ['args that are null', { args: null }, 'args'],
  ['args that are a text', { args: SECRET_ARGUMENT }, 'args'],
  ['an argument that is a boolean', { args: [SECRET_ARGUMENT, true] }, 'args[1]'],
  ['an argument that is undefined', { args: [SECRET_ARGUMENT, undefined] }, 'args[1]'],
  ['an argument with NUL', { args: ['ok', `${SECRET_ARGUMENT}\0`] }, 'args[1]'],
  ['an argument that is a symbol', { args: [Symbol(SECRET_ARGUMENT)] }, 'args[0]'],

  ['no socketPath', without('socketPath'), 'socketPath'],
  ['a relative socketPath', { socketPath: 'daemon.sock' }, 'socketPath'],
  ['an empty socketPath', { socketPath: '' }, 'socketPath'],
  ['a socketPath that is not a text', { socketPath: 80 }, 'socketPath'],
  ['a socketPath with NUL', { socketPath: '/tmp/a\0' }, 'socketPath'],
  ['a socketPath of 103 bytes', { socketPath: `/tmp/${'s'.repeat(98)}` }, 'socketPath'],
  ['a socketPath of 54 letters in 103 bytes', { socketPath: `/tmp/${'ö'.repeat(49)}` }, 'socketPath'],

  ['no startupTimeout', without('startupTimeout'), 'startupTimeout'],
  ['a startupTimeout of 0', { startupTimeout: 0 }, 'startupTimeout'],
  ['a negative startupTimeout', { startupTimeout: -1 }, 'startupTimeout'],
  ['a startupTimeout that is NaN', { startupTimeout: NaN }, 'startupTimeout'],
  ['an infinite startupTimeout', { startupTimeout: Infinity }, 'startupTimeout'],
  ['a startupTimeout that is a text', { startupTimeout: '1000' }, 'startupTimeout'],
  ['a startupTimeout that is a bigint', { startupTimeout: 1000n }, 'startupTimeout'],
  ['no shutdownGracePeriod', without('shutdownGracePeriod'), 'shutdownGracePeriod'],
  ['a negative shutdownGracePeriod', { shutdownGracePeriod: -1 }, 'shutdownGracePeriod'],
  ['a shutdownGracePeriod that is NaN', { shutdownGracePeriod: NaN }, 'shutdownGracePeriod'],
  ['an infinite shutdownGracePeriod', { shutdownGracePeriod: -Infinity }, 'shutdownGracePeriod'],
  ['a shutdownGracePeriod that is a text', { shutdownGracePeriod: 'soon' }, 'shutdownGracePeriod'],

  ['envVars that are a text', { envVars: SECRET_VALUE }, 'envVars'],
  ['envVars that are a Map', { envVars: new Map([['TOKEN', SECRET_VALUE]]) }, 'envVars must be plain data, got a Map'],
  ['a restart policy that is a Date', { restart: new Date() }, 'restart must be plain data, got a Date'],
  ['an empty Map for envVars', { envVars: new Map() }, 'envVars must be plain data, got a Map'],
  ['an environment variable that is an array', { envVars: { TOKEN: SECRET_VALUE, PORT: [8080] } }, 'envVars.PORT'],
  ['a Map for a healthcheck', { healthcheck: new Map(Object.entries({ interval: 1_000, timeout: 1_000, retries: 3 })) }, 'healthcheck'],
  ['an empty Map for a restart policy', { restart: new Map() }, 'restart must be plain data, got a Map'],
  ['a Set for a probe', { healthcheck: { ...healthcheck, probe: new Set() } }, 'healthcheck.probe'],
  ['an environment variable that is null', { envVars: { PORT: null } }, 'envVars.PORT'],
  ['an environment variable with NUL', { envVars: { TOKEN: `${SECRET_VALUE}\0` } }, 'envVars.TOKEN'],
  ['an environment variable without a name', { envVars: { '': SECRET_VALUE } }, 'envVars.'],
  ['a name of an environment variable with =', { envVars: { 'A=B': SECRET_VALUE } }, 'envVars.A'],
  ['a name of an environment variable with NUL', { envVars: { 'A\0B': SECRET_VALUE } }, 'envVars.AB'],

  ['an inheritEnv that is a text', { inheritEnv: 'PATH' }, 'inheritEnv'],
  ['a name in inheritEnv that is a number', { inheritEnv: ['PATH', 7] }, 'inheritEnv[1]'],
  ['a variable in inheritEnv', { inheritEnv: [`TOKEN=${SECRET_VALUE}`] }, 'inheritEnv[0]'],

  ['a healthcheck that is true', { healthcheck: true }, 'healthcheck'],
  ['an interval of 0', { healthcheck: { ...healthcheck, interval: 0 } }, 'healthcheck.interval'],
  ['an interval that is NaN', { healthcheck: { ...healthcheck, interval: NaN } }, 'healthcheck.interval'],
  ['a timeout of 0', { healthcheck: { ...healthcheck, timeout: 0 } }, 'healthcheck.timeout'],
  ['an infinite timeout', { healthcheck: { ...healthcheck, timeout: Infinity } }, 'healthcheck.timeout'],
  ['retries that are a text', { healthcheck: { ...healthcheck, retries: '3' } }, 'healthcheck.retries'],
  ['negative retries', { healthcheck: { ...healthcheck, retries: -1 } }, 'healthcheck.retries'],
  ['retries that are NaN', { healthcheck: { ...healthcheck, retries: NaN } }, 'healthcheck.retries'],
  ['an infinite interval', { healthcheck: { ...healthcheck, interval: Infinity } }, 'healthcheck.interval'],
  ['a timeout that is NaN', { healthcheck: { ...healthcheck, timeout: NaN } }, 'healthcheck.timeout'],
  ['a probe that is a text', { healthcheck: { ...healthcheck, probe: 'socket' } }, 'healthcheck.probe'],
  ['a probe of an unknown type', { healthcheck: { ...healthcheck, probe: { type: 'ping' } } }, 'healthcheck.probe.type'],
  ['a probe without a type', { healthcheck: { ...healthcheck, probe: {} } }, 'healthcheck.probe.type'],
  ['a readiness of an unknown type', { readiness: { type: 'telepathy' } }, 'readiness.type'],
  ['a readiness that is a text', { readiness: 'socket' }, 'readiness'],

  ['a restart that is a text', { restart: 'always' }, 'restart'],
  ['negative maxAttempts', { restart: { maxAttempts: -1 } }, 'restart.maxAttempts'],
  ['maxAttempts that are a text', { restart: { maxAttempts: 'many' } }, 'restart.maxAttempts'],
  ['a negative delay', { restart: { delay: -1 } }, 'restart.delay'],
  ['a delay that is NaN', { restart: { delay: NaN } }, 'restart.delay'],
  ['an unknown backoff', { restart: { backoff: 'fibonacci' } }, 'restart.backoff'],
  ['a factor that is NaN', { restart: { factor: NaN } }, 'restart.factor'],
  ['an infinite maxDelay', { restart: { maxDelay: Infinity } }, 'restart.maxDelay'],
  ['a jitter above 1', { restart: { jitter: 1.5 } }, 'restart.jitter'],
  ['a negative jitter', { restart: { jitter: -0.1 } }, 'restart.jitter'],
  ['a window that is a number', { restart: { window: 10 } }, 'restart.window'],
  ['a window without limit', { restart: { window: { period: 1_000 } } }, 'restart.window.limit'],
  ['a window without period', { restart: { window: { limit: 3 } } }, 'restart.window.period'],
  ['a restart on an unknown occasion', { restart: { on: 'never' } }, 'restart.on'],

  ['an unknown killMode', { killMode: 'everything' }, 'killMode'],
  ['a stopSignal that is none', { stopSignal: 'SIGNAL' }, 'stopSignal'],
  ['a stopSignal that is a number', { stopSignal: 15 }, 'stopSignal'],
  ['a socket held by nobody', { socket: 'nobody' }, 'socket'],
];

test('ERR_INVALID_CONFIG: the table of invalid configurations has more than 80 different cases', () => {
  expect(cases.length).toBeGreaterThan(80);
  expect(new Set(cases.map(([what]) => what)).size).toBe(cases.length);
});

test('ERR_INVALID_CONFIG: half a character in a pluginName, which would become U+FFFD', async () => {
  const manager = world.manager();
  const error = await failure(manager.startProcess({ ...world.config(), pluginName: 'a\ud800' }));
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expectProblem(error, 'pluginName');
  expect(manager.listProcesses()).toEqual([]);
});

test.each(cases)('ERR_INVALID_CONFIG: startProcess refuses %s, names the field and changes nothing', async (_, change, field) => {
  const manager = world.manager();
  const events = record(manager);
  const before = children(process.pid);
  const whole = world.config('plugin', ['serves.py', SECRET_ARGUMENT], { envVars: { API_KEY: SECRET_VALUE } });
  const bad = typeof change === 'function' ? change(whole) : { ...whole, ...change };

  const promise = manager.startProcess(bad);
  expect(promise).toBeInstanceOf(Promise);
  const error = await failure(promise);

  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expectProblem(error, field);
  expect(error.message).not.toContain('hunter2');
  expect(error.stack).toContain(error.message);
  if (typeof bad?.pluginName === 'string' && bad.pluginName !== '') expect(error.pluginName).toBe(bad.pluginName);

  if (typeof bad?.pluginName === 'string') expect(manager.getState(bad.pluginName)).toBeUndefined();
  expect(manager.listProcesses()).toEqual([]);
  expect(events.all).toEqual([]);
  expect(fs.existsSync(world.envsDir)).toBe(false);
  expect(fs.readdirSync(world.pluginPath)).toEqual([]);
  expect(children(process.pid).filter(({ pid }) => !before.some((child) => child.pid === pid))).toEqual([]);
});

test('socketPath: the limit of the check is the one that index.d.ts and the documentation name', async () => {
  const { message } = await failure(world.manager().startProcess({ ...world.config(), socketPath: `/tmp/${'s'.repeat(200)}` }));
  const [, limit] = /socketPath must be at most (\d+) bytes/.exec(message);
  const named =
    process.platform === 'darwin' ? /(?:and|macOS:) (\d+)(?: on macOS|\))/ : /socket, at most (\d+) bytes|path, at most (\d+) bytes/;
  for (const [file, line] of [
    ['index.d.ts', /.*absolute path of the daemon's Unix socket.*/],
    ['docs/configuration.md', /^\| `socketPath`.*/m],
  ]) {
    const [text] = line.exec(fs.readFileSync(path.join(ROOT, file), 'utf8'));
    expect(named.exec(text).slice(1)).toContain(limit);
  }
});
