'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { usePrinted } = require('./printed');

const world = useWorld();
const { pieces } = usePrinted(world);

class RecordingLogger {
  records = [];

  debug(message, fields) {
    this.records.push({ level: 'debug', message, fields });
  }

  info(message, fields) {
    this.records.push({ level: 'info', message, fields });
  }

  warn(message, fields) {
    this.records.push({ level: 'warn', message, fields });
  }

  error(message, fields) {
    this.records.push({ level: 'error', message, fields });
  }

  /** Message and fields as one text, as in a line of a log. */
  at(level) {
    return this.records.filter((entry) => entry.level === level).map(({ message, fields }) => `${message} ${JSON.stringify(fields ?? {})}`);
  }
}

test('logger: gets the entries of its own manager only', async () => {
  const loggers = [new RecordingLogger(), new RecordingLogger()];
  const [one, two] = loggers.map((logger) => world.manager({ logger }));
  await one.startProcess(world.config('one'));
  await two.startProcess(world.config('two'));
  await Promise.all([one.stopAllProcesses(), two.stopAllProcesses()]);
  await until(() => loggers.every((logger) => logger.at('info').length >= 3));
  expect(loggers[0].records.filter((entry) => JSON.stringify(entry).includes('two'))).toEqual([]);
  expect(loggers[1].records.filter((entry) => JSON.stringify(entry).includes('one'))).toEqual([]);

  // A third manager's entries reach neither logger.
  const before = loggers[0].records.length;
  const third = world.manager();
  await third.startProcess(world.config('three'));
  await third.stopAllProcesses();
  expect(loggers[0].records).toHaveLength(before);
});

test('logger: gets each line at debug, and start, ready and stop at info', async () => {
  const logger = new RecordingLogger();
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('plugin', pieces([1, 'a line on stdout\n'], [2, 'a line on stderr\n'])));
  await until(() => logger.at('debug').some((message) => message.includes('a line on stderr')));
  for (const line of ['a line on stdout', 'a line on stderr']) {
    expect(logger.records.some(({ level, message }) => level === 'debug' && message.includes(line))).toBe(true);
  }
  await manager.stopProcess('plugin');
  await until(() => logger.at('info').length >= 3);
  // Start, ready and stop, and each entry names the plugin.
  for (const { message, fields } of logger.records.filter(({ level }) => level === 'info')) {
    expect(typeof message).toBe('string');
    expect(JSON.stringify([message, fields])).toContain('plugin');
  }
  expect(logger.at('warn')).toEqual([]);
  expect(logger.at('error')).toEqual([]);
});

test('logger: gets crash and restart at warn, and giving up at error', async () => {
  const logger = new RecordingLogger();
  const manager = world.manager({ logger });
  await manager.startProcess(
    world.config('plugin', ['differs-by-start.py', world.path('starts'), 'good', 'refuse'], {
      restart: { maxAttempts: 1, delay: 0 },
    }),
  );
  process.kill(manager.getPid('plugin'), 'SIGKILL');
  await until(() => logger.at('error').length > 0);
  expect(logger.at('warn').some((message) => message.includes('SIGKILL'))).toBe(true);
  expect(logger.at('warn').length).toBeGreaterThanOrEqual(2);
  expect(logger.at('error').some((message) => message.includes('Maximum restart attempts exceeded'))).toBe(true);
});

test('logger: gets a failed health check at warn', async () => {
  const logger = new RecordingLogger();
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('plugin', ['serves.py'], { healthcheck: { interval: 20, timeout: 200, retries: 1_000 } }));
  fs.unlinkSync(world.socket('plugin'));
  await until(() => logger.at('warn').some((message) => message.includes('ENOENT')));
  expect(manager.isRunning('plugin')).toBe(true);
});

test('logger, events, errors: never contain an argument or a value of a variable', async () => {
  const logger = new RecordingLogger();
  const manager = world.manager({ logger });
  const events = record(manager);
  const config = world.config('plugin', ['differs-by-start.py', world.path('starts'), 'good', 'refuse', 'hunter2-argument'], {
    envVars: { TOKEN: 'hunter2-value' },
    restart: { maxAttempts: 1, delay: 0 },
    healthcheck: { interval: 20, timeout: 200, retries: 2 },
  });
  await manager.startProcess(config);
  fs.unlinkSync(world.socket('plugin'));
  await until(() => manager.getState('plugin') === 'error');
  await failure(manager.startProcess({ ...config, command: '/no/such' }));
  await manager.stopAllProcesses();
  const { config: _, ...info } = manager.getProcessInfo('plugin');
  expect(logger.records.length).toBeGreaterThan(5);
  expect(JSON.stringify([logger.records, events.all, info])).not.toContain('hunter2');
});

test('logger.isLevelEnabled: is asked at each start', async () => {
  let level = 'info';
  const logger = Object.assign(new RecordingLogger(), { isLevelEnabled: (name) => name !== 'debug' || level === 'debug' });
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('early', pieces([1, 'an early line\n'])));
  await until(() => manager.getOutput('early').length === 1 && logger.at('info').length >= 2);
  expect(logger.at('debug')).toEqual([]);

  level = 'debug';
  await manager.startProcess(world.config('late', pieces([1, 'a late line\n'])));
  await until(() => logger.at('debug').some((message) => message.includes('a late line')));
  expect(logger.at('debug').filter((message) => message.includes('an early line'))).toEqual([]);

  level = 'info';
  await manager.startProcess(world.config('last', pieces([1, 'a last line\n'])));
  await until(() => manager.getOutput('last').length === 1);
  await manager.stopAllProcesses();
  expect(logger.at('debug').filter((message) => message.includes('a last line'))).toEqual([]);
});

test.each([
  ['1', () => 1, true],
  ["'yes'", () => 'yes', true],
  ['an object', () => ({}), true],
  ['undefined', () => undefined, true],
  ['0', () => 0, false],
  ['an empty text', () => '', false],
  // If the answer cannot be known, lines are delivered.
  [
    'an error',
    () => {
      throw new Error('no level today');
    },
    true,
  ],
])('logger.isLevelEnabled: %s decides whether lines are delivered', async (_, isLevelEnabled, reads) => {
  const logger = Object.assign(new RecordingLogger(), { isLevelEnabled });
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('plugin', pieces([1, 'a line\n'])));
  await until(() => manager.getOutput('plugin').length === 1);
  await manager.stopProcess('plugin');
  // The entry of the stop comes after all lines.
  await until(() => logger.at('info').length >= 3);
  expect(logger.at('debug').some((message) => message.includes('a line'))).toBe(reads);
});

test('logger: its functions are called as methods', async () => {
  const logger = new RecordingLogger();
  Object.freeze(logger);
  const manager = world.manager({ logger });
  await manager.startProcess(world.config());
  await until(() => logger.at('info').length > 0);
});
