'use strict';

const fs = require('node:fs');
const { expectNothingLeft, record, useWorld } = require('./helpers/world');
const { alive, children, signal } = require('./helpers/processes');
const { failure, until } = require('./helpers/until');

const world = useWorld();

/** The arguments for prints.py: each piece is one write, [descriptor, text or bytes]. */
function pieces(...list) {
  return [
    'prints.py',
    ...list.flatMap(([fd, bytes], index) => {
      const file = world.path(`piece-${index}`);
      fs.writeFileSync(file, bytes);
      return [fd, file];
    }),
  ];
}

/** Starts a daemon that prints this, stops it, and returns what there is to read. */
async function printed(...list) {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', pieces(...list)));
  await manager.stopProcess('plugin');
  return manager.getOutput('plugin');
}

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

  /** Message and fields as one text: what a line of a log would have. */
  at(level) {
    return this.records.filter((entry) => entry.level === level).map(({ message, fields }) => `${message} ${JSON.stringify(fields ?? {})}`);
  }
}

describe('getOutput', () => {
  test('has the lines of both streams, each in its order', async () => {
    const lines = await printed([1, 'out 1\nout 2\n'], [2, 'err 1\nerr 2\n'], [1, 'out 3\n']);
    expect(lines).toHaveLength(5);
    expect(lines.filter((line) => line.startsWith('out'))).toEqual(['out 1', 'out 2', 'out 3']);
    expect(lines.filter((line) => line.startsWith('err'))).toEqual(['err 1', 'err 2']);
  });

  test('has the last lines, oldest first, as many as asked for', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', pieces([1, 'a\nb\nc\nd\n'])));
    await until(() => manager.getOutput('plugin').length === 4);
    expect(manager.getOutput('plugin', 2)).toEqual(['c', 'd']);
    expect(manager.getOutput('plugin', 1)).toEqual(['d']);
    expect(manager.getOutput('plugin', 100)).toEqual(['a', 'b', 'c', 'd']);
    expect(manager.getOutput('plugin', 0)).toEqual([]);
    expect(manager.getOutput('nobody', 2)).toEqual([]);
  });

  test('keeps the last thousand lines', async () => {
    const all = Array.from({ length: 2_500 }, (_, index) => `line ${index}`);
    expect(await printed([1, `${all.join('\n')}\n`])).toEqual(all.slice(-1_000));
  });

  test('keeps the last 256 KiB', async () => {
    const all = Array.from({ length: 600 }, (_, index) => `${index} `.padEnd(1_024, 'x'));
    const lines = await printed([1, `${all.join('\n')}\n`]);
    expect(lines.length).toBeGreaterThanOrEqual(250);
    expect(lines.length).toBeLessThanOrEqual(256);
    expect(lines).toEqual(all.slice(-lines.length));
  });

  test('keeps empty lines and blanks', async () => {
    expect(await printed([1, 'a\n\n  b  \n\t\n'])).toEqual(['a', '', '  b  ', '\t']);
  });

  test('keeps a last line that never ended', async () => {
    expect(await printed([1, 'whole\nhalf a li'])).toEqual(['whole', 'half a li']);
    const manager = world.manager();
    await failure(manager.startProcess(world.config('other', ['exits.py', '--code', 1])));
    expect(manager.getOutput('other')).toEqual([]);
  });

  test('puts a line together that came in pieces', async () => {
    expect(await printed([1, 'one '], [1, 'line\nand an'], [1, 'other\n'])).toEqual(['one line', 'and another']);
  });

  test('puts a letter together that came in pieces', async () => {
    const bytes = Buffer.from('Grüße, 日本 🦀\n');
    const cuts = [3, 12, 15, 19];
    const list = [...cuts, bytes.length].map((end, index) => [1, bytes.subarray(cuts[index - 1] ?? 0, end)]);
    expect(await printed(...list)).toEqual(['Grüße, 日本 🦀']);
  });

  test('puts U+FFFD where there is no UTF-8', async () => {
    const lines = await printed([2, Buffer.from([0x61, 0xff, 0x62, 0x0a, 0xc3, 0x28, 0x0a, 0xe2, 0x82, 0x0a, 0x80, 0x0a])]);
    expect(lines).toEqual(['a\ufffdb', '\ufffd(', '\ufffd', '\ufffd']);
  });

  test('keeps control characters', async () => {
    expect(await printed([1, '\x1b[1mbold\x1b[0m\x07\x00end\n'])).toEqual(['\x1b[1mbold\x1b[0m\x07\x00end']);
  });

  test('splits lines over 64 KiB, and loses nothing', async () => {
    const long = Array.from({ length: 15_000 }, (_, index) => String(index).padStart(10, '.')).join('');
    const lines = await printed([1, `before\n${long}\nafter\n`]);
    expect(lines[0]).toBe('before');
    expect(lines.at(-1)).toBe('after');
    const parts = lines.slice(1, -1);
    expect(parts.join('')).toBe(long);
    expect(parts).toHaveLength(Math.ceil(long.length / 65_536));
    for (const part of parts) expect(Buffer.byteLength(part)).toBeLessThanOrEqual(65_536);
  });

  test('does not split a letter there', async () => {
    const long = `.${'ü'.repeat(50_000)}`;
    const parts = await printed([1, `${long}\n`]);
    expect(parts.join('')).toBe(long);
    expect(parts.length).toBeGreaterThan(1);
  });

  test('has what the children of the leader print', async () => {
    const manager = world.manager();
    const source = `echo from the child; sh -c 'echo from the grandchild' & wait; exec "$@"`;
    const willing = world.config('plugin');
    await manager.startProcess({ ...willing, command: '/bin/sh', args: ['-c', source, 'sh', willing.command, ...willing.args] });
    await until(() => manager.getOutput('plugin').length === 2);
    expect(manager.getOutput('plugin').sort()).toEqual(['from the child', 'from the grandchild']);
  });

  test('goes on over a restart', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', pieces([1, 'hello\n']), { restart: { delay: 0 } }));
    await until(() => manager.getOutput('plugin').length === 1);
    process.kill(manager.getPid('plugin'), 'SIGKILL');
    await until(() => manager.getOutput('plugin').length === 2);
    expect(manager.getOutput('plugin')).toEqual(['hello', 'hello']);
  });
});

describe('a flood', () => {
  const MIB = 24;

  test('on both streams blocks nobody, and memory stays bounded', async () => {
    const manager = world.manager();
    const marker = world.path('flooded');
    await manager.startProcess(world.config('plugin', ['floods.py', MIB, marker]));
    const before = process.memoryUsage().rss;
    fs.writeFileSync(`${marker}.go`, '');
    await until(() => fs.existsSync(marker), 20_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(2 * MIB * 1024 * 1024);
    expect(manager.isRunning('plugin')).toBe(true);
    await until(() => manager.getOutput('plugin').length === 1_000);
    for (const line of manager.getOutput('plugin')) expect(line).toBe('f'.repeat(127));
  });

  test('does not wait for JavaScript', async () => {
    const manager = world.manager();
    const marker = world.path('flooded');
    await manager.startProcess(world.config('plugin', ['floods.py', 4, marker]));
    fs.writeFileSync(`${marker}.go`, '');
    // Not one turn of the loop from here on.
    const end = performance.now() + 15_000;
    while (!fs.existsSync(marker) && performance.now() < end);
    expect(fs.existsSync(marker)).toBe(true);
  });

  test('does not disturb a stop, nor the listeners', async () => {
    const manager = world.manager();
    const marker = world.path('flooded');
    let lines = 0;
    manager.on('output', () => lines++);
    await manager.startProcess(world.config('plugin', ['floods.py', 1_000_000, marker]));
    fs.writeFileSync(`${marker}.go`, '');
    await until(() => lines > 1_000);
    const began = performance.now();
    await manager.stopProcess('plugin');
    expect(performance.now() - began).toBeLessThan(5_000);
    expectNothingLeft(world, 'plugin');
  });
});

describe('output events', () => {
  test('have the stream and the line', async () => {
    const manager = world.manager();
    const seen = [];
    manager.on('output', (event) => seen.push(event));
    await manager.startProcess(world.config('plugin', pieces([1, 'to stdout\n'], [2, 'to stderr \xff\n'], [1, 'no end'])));
    await manager.stopProcess('plugin');
    await until(() => seen.length === 3);
    expect(seen.map(({ pluginName, stream, line }) => ({ pluginName, stream, line }))).toEqual(
      expect.arrayContaining([
        { pluginName: 'plugin', stream: 'stdout', line: 'to stdout' },
        { pluginName: 'plugin', stream: 'stderr', line: 'to stderr ÿ' },
        { pluginName: 'plugin', stream: 'stdout', line: 'no end' },
      ]),
    );
  });

  test('come while somebody listens, whenever that began, and not for the past', async () => {
    const manager = world.manager();
    const beats = world.path('beats');
    await manager.startProcess(world.config('plugin', ['beats.py', beats]));
    await until(() => manager.getOutput('plugin').length > 3);
    const seen = [];
    const listener = (event) => seen.push(event);
    manager.on('output', listener);
    await until(() => seen.length > 5);
    manager.off('output', listener);
    const after = seen.length;
    const printed = Number(fs.readFileSync(beats, 'utf8'));
    await until(() => Number(fs.readFileSync(beats, 'utf8')) > printed + 5);
    expect(seen).toHaveLength(after);
    expect(seen.every(({ line }) => line === 'b'.repeat(1_023))).toBe(true);
  });
});

describe('the logger', () => {
  test('hears of its own manager only', async () => {
    const loggers = [new RecordingLogger(), new RecordingLogger()];
    const [one, two] = loggers.map((logger) => world.manager({ logger }));
    await one.startProcess(world.config('one'));
    await two.startProcess(world.config('two'));
    await Promise.all([one.stopAllProcesses(), two.stopAllProcesses()]);
    await until(() => loggers.every((logger) => logger.at('info').length >= 3));
    expect(loggers[0].records.filter((entry) => JSON.stringify(entry).includes('two'))).toEqual([]);
    expect(loggers[1].records.filter((entry) => JSON.stringify(entry).includes('one'))).toEqual([]);

    // Nor of what a third one does, whatever that is about.
    const before = loggers[0].records.length;
    const third = world.manager();
    await third.startProcess(world.config('three'));
    await third.stopAllProcesses();
    expect(loggers[0].records).toHaveLength(before);
  });

  test('gets each line at debug, and the life of the daemon at info', async () => {
    const logger = new RecordingLogger();
    const manager = world.manager({ logger });
    await manager.startProcess(world.config('plugin', pieces([1, 'a line on stdout\n'], [2, 'a line on stderr\n'])));
    await until(() => logger.at('debug').some((message) => message.includes('a line on stderr')));
    for (const line of ['a line on stdout', 'a line on stderr']) {
      expect(logger.records.some(({ level, message }) => level === 'debug' && message.includes(line))).toBe(true);
    }
    await manager.stopProcess('plugin');
    await until(() => logger.at('info').length >= 3);
    // Start, ready, stop; and everyone of them says of whom it speaks.
    for (const { message, fields } of logger.records.filter(({ level }) => level === 'info')) {
      expect(typeof message).toBe('string');
      expect(JSON.stringify([message, fields])).toContain('plugin');
    }
    expect(logger.at('warn')).toEqual([]);
    expect(logger.at('error')).toEqual([]);
  });

  test('gets crash and restart as a warning, and giving up as an error', async () => {
    const logger = new RecordingLogger();
    const manager = world.manager({ logger });
    await manager.startProcess(
      world.config('plugin', ['by-turns.py', world.path('starts'), 'good', 'refuse'], {
        restart: { maxAttempts: 1, delay: 0 },
      }),
    );
    process.kill(manager.getPid('plugin'), 'SIGKILL');
    await until(() => logger.at('error').length > 0);
    expect(logger.at('warn').some((message) => message.includes('SIGKILL'))).toBe(true);
    expect(logger.at('warn').length).toBeGreaterThanOrEqual(2);
    expect(logger.at('error').some((message) => message.includes('Maximum restart attempts exceeded'))).toBe(true);
  });

  test('gets a failed check as a warning', async () => {
    const logger = new RecordingLogger();
    const manager = world.manager({ logger });
    await manager.startProcess(world.config('plugin', ['willing.py'], { healthcheck: { interval: 20, timeout: 200, retries: 1_000 } }));
    fs.unlinkSync(world.socket('plugin'));
    await until(() => logger.at('warn').some((message) => message.includes('ENOENT')));
    expect(manager.isRunning('plugin')).toBe(true);
  });

  test('never sees an argument or the value of a variable, and no event or error does', async () => {
    const logger = new RecordingLogger();
    const manager = world.manager({ logger });
    const events = record(manager);
    const config = world.config('plugin', ['by-turns.py', world.path('starts'), 'good', 'refuse', 'hunter2-argument'], {
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

  test('whose level changes gets the lines from the next start on', async () => {
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
    // One that doesn't say is told.
    [
      'an error',
      () => {
        throw new Error('no level today');
      },
      true,
    ],
  ])('may answer with %s whether it reads lines', async (_, isLevelEnabled, reads) => {
    const logger = Object.assign(new RecordingLogger(), { isLevelEnabled });
    const manager = world.manager({ logger });
    await manager.startProcess(world.config('plugin', pieces([1, 'a line\n'])));
    await until(() => manager.getOutput('plugin').length === 1);
    await manager.stopProcess('plugin');
    // The end is told after all lines.
    await until(() => logger.at('info').length >= 3);
    expect(logger.at('debug').some((message) => message.includes('a line'))).toBe(reads);
  });

  test('is called as a method', async () => {
    const logger = new RecordingLogger();
    Object.freeze(logger);
    const manager = world.manager({ logger });
    await manager.startProcess(world.config());
    await until(() => logger.at('info').length > 0);
  });
});

describe('ALLY_LOG', () => {
  test('without a logger sends records to stderr', async () => {
    const owner = world.owner('starts.js', { configs: [world.config('plugin')], end: 'stop' }, { env: { ALLY_LOG: 'debug' } });
    expect(await owner.says('stopped')).toBe(true);
    await owner.closed;
    expect(owner.errors).toContain('plugin');
    expect(owner.errors).not.toContain('(on stdout)');
  });

  test('without a logger tells how many lines were dropped while the loop was busy', async () => {
    const marker = world.path('flooded');
    const owner = world.owner(
      'blocks.js',
      { configs: [world.config('plugin', ['floods.py', 4, marker])], marker },
      { env: { ALLY_LOG: 'warn' } },
    );
    const lines = await owner.says('lines');
    await owner.closed;
    const counts = [...owner.errors.matchAll(/(\d+) events and (\d+) lines were dropped/g)].map(([, events, dropped]) => [
      Number(events),
      Number(dropped),
    ]);
    expect(counts.length).toBeGreaterThan(0);
    expect(counts.every(([events]) => events === 0)).toBe(true);
    // 4 MiB on each stream, in lines of 128 bytes. Each of them was heard or counted.
    expect(lines + counts.reduce((sum, [, dropped]) => sum + dropped, 0)).toBe(2 * 4 * 8_192);
    expect(lines).toBeLessThan(20_000);
  });

  test('where it is not set, stderr stays empty', async () => {
    const owner = world.owner('starts.js', { configs: [world.config('plugin')], end: 'stop' }, { env: { ALLY_LOG: undefined } });
    expect(await owner.says('stopped')).toBe(true);
    await owner.closed;
    expect(owner.errors).toBe('');
  });
});

describe('a grandchild that holds the pipe open', () => {
  test('delays no failure', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    const began = performance.now();
    // killMode 'group' leaves it alive with the descriptors of the leader.
    const error = await failure(
      manager.startProcess(world.config('plugin', ['family.py', marker, '--exit', 3, 'fled'], { killMode: 'group' })),
    );
    const { fled } = await world.family(marker);
    world.finally(() => signal(fled, 'SIGKILL'));
    expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3 });
    expect(error.stderr).toContain('the leader goes');
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(alive(fled)).toBe(true);
  });

  test("delays no last line without an end: it is told before the leader's exit", async () => {
    const manager = world.manager();
    const seen = [];
    manager.on('output', ({ line }) => seen.push(line));
    manager.on('exit', ({ reason }) => seen.push(reason));
    const willing = world.config('plugin', ['willing.py'], { restart: { maxAttempts: 0 }, killMode: 'group' });
    // In a session of its own, where killMode 'group' leaves it alone.
    const source = 'setsid sleep 60 & printf "whole\\nhalf a li"; exec "$@"';
    await manager.startProcess({ ...willing, command: '/bin/sh', args: ['-c', source, 'sh', willing.command, ...willing.args] });
    const [sleeper] = await until(() => children(manager.getPid('plugin')).length === 1 && children(manager.getPid('plugin')));
    world.finally(() => signal(sleeper, 'SIGKILL'));
    await until(() => manager.getOutput('plugin').includes('half a li'));
    expect(seen).toEqual(['whole']);
    process.kill(manager.getPid('plugin'), 'SIGKILL');
    await until(() => seen.includes('crashed'));
    expect(seen).toEqual(['whole', 'half a li', 'crashed']);
    expect(alive(sleeper)).toBe(true);
  });

  test('delays no stop, no restart and no end', async () => {
    const manager = world.manager();
    const marker = world.path('family');
    await manager.startProcess(world.config('plugin', ['family.py', marker, 'fled'], { killMode: 'group', restart: { delay: 0 } }));
    const first = await world.family(marker);
    world.finally(() => signal(first.fled, 'SIGKILL'));
    const pid = manager.getPid('plugin');
    fs.unlinkSync(marker);
    let began = performance.now();
    process.kill(pid, 'SIGKILL');
    await until(() => manager.getPid('plugin') !== pid && manager.isRunning('plugin'));
    expect(performance.now() - began).toBeLessThan(4_000);
    const second = await world.family(marker);
    world.finally(() => signal(second.fled, 'SIGKILL'));

    began = performance.now();
    await manager.stopProcess('plugin');
    expect(performance.now() - began).toBeLessThan(4_000);
    expect([first.fled, second.fled].map(alive)).toEqual([true, true]);
  });
});
