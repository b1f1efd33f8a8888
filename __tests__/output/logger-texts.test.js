'use strict';

const fs = require('node:fs');
const { BackgroundProcessManager } = require('../..');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { usePrinted } = require('./printed');

const world = useWorld();
const { pieces } = usePrinted(world);

/** A logger that keeps what console shows: the text alone, and the fields of each text. */
function texts() {
  const entries = [];
  const take = (message, fields) => entries.push({ message, fields });
  const find = (pattern) => entries.find(({ message }) => pattern.test(message));
  return { logger: { debug: take, info: take, warn: take, error: take }, entries, find };
}

const defects = { restart: { maxAttempts: 1, delay: 12.345, jitter: 0 } };

test('logger: the text says name, pid, reason and delay by itself, and fields repeats them', async () => {
  const { logger, find } = texts();
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('plugin', ['differs-by-start.py', world.path('starts'), 'good', 'refuse'], defects));
  const pid = manager.getPid('plugin');
  process.kill(pid, 'SIGKILL');
  await until(() => manager.getState('plugin') === 'error' && find(/gave up/));

  const started = find(new RegExp(`^plugin: started \\(pid ${pid}\\)$`));
  expect(started.fields).toEqual({ pluginName: 'plugin', pid });
  const exited = find(new RegExp(`^plugin: exited \\(pid ${pid}, reason crashed, SIGKILL\\)$`));
  expect(exited.fields).toEqual({ pluginName: 'plugin', pid, reason: 'crashed', ending: 'SIGKILL' });
  const restart = find(/^plugin: restart scheduled \(attempt 1, delay 12 ms, reason crashed\)$/);
  expect(restart.fields).toMatchObject({ pluginName: 'plugin', attempt: 1, reason: 'crashed' });
  expect(restart.fields.delay_ms).toBeCloseTo(12.345);
  const { lastError } = manager.getProcessInfo('plugin');
  const gaveUp = find(/^plugin: gave up: Maximum restart attempts exceeded/);
  expect(gaveUp.fields).toEqual({ pluginName: 'plugin', reason: lastError });
});

test('logger: the text of a failed health check has the number of failures and the error', async () => {
  const { logger, find } = texts();
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('plugin', ['serves.py'], { healthcheck: { interval: 20, timeout: 500, retries: 1_000 } }));
  fs.unlinkSync(world.socket('plugin'));
  await until(() => find(/^plugin: health check failed \(failures 1\): .*ENOENT/));
});

test('logger: the text of a line of output has the line and nothing else', async () => {
  const { logger, find } = texts();
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('plugin', pieces([1, 'a line on stdout\n'])));
  await until(() => find(/a line on stdout/));
  expect(find(/a line on stdout/)).toEqual({ message: 'plugin: a line on stdout', fields: { pluginName: 'plugin', stream: 'stdout' } });
});

test.each([
  ['envDir', { envDir: '/tmp' }],
  ['colour', { colour: undefined, logger: undefined, onOwnerDeath: 'stop' }],
  ['colour', { colour: null }],
  ['toString', { toString: () => 'x' }],
])('ERR_INVALID_CONFIG: the constructor refuses the unknown option %s unless it is undefined: %p', (name, options) => {
  let error;
  try {
    new BackgroundProcessManager({ envsDir: world.envsDir, ...options });
  } catch (thrown) {
    error = thrown;
  }
  if (options[name] === undefined) return expect(error).toBeUndefined();
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toBe(
    `Invalid configuration: ${name} is no option of the manager: the options are envsDir, logger, onOwnerDeath, defaults, guardianPath`,
  );
});
