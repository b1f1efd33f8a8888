'use strict';

const fs = require('node:fs');
const { BackgroundProcessManager, configFromManifest } = require('../..');
const { record } = require('../helpers/events');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { NativeManager } = require('../../native.js');
const { withoutAddon } = require('../../lib/without-addon.js');

const world = useWorld();

/** Control characters, an escape sequence, direction marks, invisible characters and line separators. */
const HOSTILE = 'a\n\r\u001b[31mb\u0007\u009b\u202e\u2066\u200e\u061c\u200b\ufeff\u2028\u2029\u00ad\tc';
const SHOWN = 'ab c';
/** Each character that must not reach a message, except the line breaks before quoted lines of output. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

const clean = (text) => {
  expect(text).toContain(SHOWN);
  expect(text).not.toMatch(HIDDEN);
};

function thrown(call) {
  try {
    call();
  } catch (error) {
    return error;
  }
}

test('messages: no control or format character of a path or name enters the error of a start, lastError or a log entry', async () => {
  const entries = [];
  const take = (text, fields) => entries.push([text, fields]);
  const manager = world.manager({ logger: { debug: take, info: take, warn: take, error: take } });
  const { all } = record(manager);
  const file = world.path(HOSTILE);
  fs.writeFileSync(file, '');
  const starts = {
    command: { command: file },
    pluginPath: { pluginPath: `${file}-no-folder` },
    'a file at socketPath': { socketPath: file },
    'socketPath and readiness': { socketPath: `${file}.sock`, startupTimeout: 100, shutdownGracePeriod: 0 },
    [`a name ${HOSTILE}`]: { command: '/no/such/program' },
  };
  for (const [name, changes] of Object.entries(starts)) {
    const error = await failure(manager.startProcess(world.config(name, ['never-binds.py'], changes)));
    clean(error.message);
    const { lastError } = manager.getProcessInfo(name);
    expect(lastError).not.toMatch(HIDDEN);
    // The fields are for programs, and have the names as they are.
    expect(error.pluginName).toBe(name);
  }
  expect((await failure(manager.startProcess(world.config('path', [], { command: file })))).path).toBe(file);
  await until(() => entries.filter(([text]) => text.includes('gave up')).length >= 6);
  for (const [text, { pluginName: _, ...fields }] of entries) {
    expect(text).not.toMatch(HIDDEN);
    for (const field of Object.values(fields)) expect(String(field)).not.toMatch(HIDDEN);
  }
  for (const { reason } of all) expect(reason ?? '').not.toMatch(HIDDEN);
});

test('health event and lastError: no control or format character of the path', async () => {
  const manager = world.manager();
  const { all } = record(manager);
  const socketPath = world.path(HOSTILE);
  await manager.startProcess(
    world.config('plugin', ['serves.py'], {
      socketPath,
      healthcheck: { interval: 20, timeout: 500, retries: 2 },
      restart: { maxAttempts: 0 },
    }),
  );
  fs.unlinkSync(socketPath);
  await until(() => manager.getState('plugin') === 'error');
  await until(() => all.some(({ type, healthy }) => type === 'health' && !healthy));
  for (const { type, healthy, error } of all) if (type === 'health' && !healthy) clean(error);
  clean(manager.getProcessInfo('plugin').lastError);
});

test('ERR_INVALID_CONFIG: no control or format character of a field, key or value', async () => {
  const warnings = [];
  const ignore = () => {};
  const manager = world.manager({ logger: { debug: ignore, info: ignore, error: ignore, warn: (text) => warnings.push(text) } });
  clean((await failure(manager.startProcess(world.config('plugin', [], { envVars: { [HOSTILE]: {} } })))).message);
  clean((await failure(manager.startProcess(world.config(`/${HOSTILE}`)))).message);
  clean((await failure(manager.whenRunning(HOSTILE))).message);
  clean(thrown(() => new BackgroundProcessManager({ [HOSTILE]: 1 })).message);
  clean(thrown(() => new BackgroundProcessManager({ defaults: { [HOSTILE]: 1 } })).message);
  clean(thrown(() => configFromManifest({ name: HOSTILE }, { pluginPath: '/' })).message);
  const manifest = { name: 'plugin', daemon: { command: 'x', envVars: { [HOSTILE]: {} } } };
  clean(thrown(() => configFromManifest(manifest, { pluginPath: '/' })).message);
  await manager.startProcess({ ...world.config(), [HOSTILE]: 1 });
  await until(() => warnings.length > 0);
  clean(warnings[0]);
});

test('messages: the addon and its stand-in remove the same characters, all of the categories Cc, Cf, Zl and Zp', () => {
  const StandIn = withoutAddon('no addon', '/ally.node');
  const kept = (type) => {
    const found = [];
    // One message has 4,096 characters, and NUL marks none of them: it is removed itself.
    for (let start = 1; start <= 0x10ffff; start += 4096) {
      let text = '';
      for (let code = start; code < start + 4096 && code <= 0x10ffff; code++) {
        if (!(code >= 0xd800 && code <= 0xdfff) && code !== 0x1b) text += String.fromCodePoint(code);
      }
      found.push(type.invalidConfig('', text).message);
    }
    return found;
  };
  const native = kept(NativeManager);
  // Indices, because the texts would fill the screen.
  expect(native.findIndex((message) => HIDDEN.test(message))).toBe(-1);
  const standIn = kept(StandIn);
  expect(native.findIndex((message, index) => message !== standIn[index])).toBe(-1);
});
