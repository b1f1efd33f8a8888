'use strict';

const fs = require('node:fs');
const { failure, thrown } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { crash, runningAgain } = require('../restart/crash');

const world = useWorld();
const COUNT = 3_000;

const numbering = (count = COUNT, burst = 20, changes = {}) => world.config('plugin', ['numbers-its-lines.py', count, burst], changes);
const printing = (...lines) => world.config('plugin', ['exits.py', '--listen', '--after', 60_000, ...lines]);

/** Reads until `enough` of the entries so far. */
async function read(logs, enough = () => false) {
  const entries = [];
  for await (const entry of logs) {
    entries.push(entry);
    if (enough(entries)) break;
  }
  return entries;
}

const texts = (entries) => entries.map(({ line }) => line);
const kept = (manager, count) => until(() => manager.getOutput('plugin').length === count, 10_000, `${count} lines are kept`);

/** The numbers of each stream, in the order in which they came. */
const numbers = (entries, stream) => entries.filter((entry) => entry.stream === stream).map(({ line }) => Number(line));
const expected = (count, stream) => Array.from({ length: count }, (_, n) => n).filter((n) => (n % 5 === 0) === (stream === 'stderr'));

/** Both streams have come to their end. */
function untilLast(count) {
  const missing = new Set([count - 1, count - 5].map(String));
  return (entries) => missing.delete(entries.at(-1).line) && missing.size === 0;
}

function expectWhole(entries, count = COUNT) {
  for (const stream of ['stdout', 'stderr']) expect(numbers(entries, stream)).toEqual(expected(count, stream));
}

test('logs: what is kept, with stream, time and pid, also after the stop', async () => {
  const manager = world.manager();
  const before = Date.now();
  await manager.startProcess(printing('--out', 'hello', 'fault'));
  await kept(manager, 2);
  const pid = manager.getPid('plugin');
  const check = async () => {
    const entries = await read(manager.logs('plugin'));
    expect([...entries].sort((a, b) => a.line.localeCompare(b.line))).toEqual([
      { stream: 'stderr', line: 'fault', at: expect.any(Date), pid },
      { stream: 'stdout', line: 'hello', at: expect.any(Date), pid },
    ]);
    for (const { at } of entries) {
      expect(at.getTime()).toBeGreaterThanOrEqual(before - 1);
      expect(at.getTime()).toBeLessThanOrEqual(Date.now() + 1);
    }
  };
  await check();
  await manager.stopProcess('plugin');
  await check();
});

test('logs lines: limits what is kept', async () => {
  const manager = world.manager();
  await manager.startProcess(printing('--out', 'a', '--out', 'b', '--out', 'c'));
  await kept(manager, 3);
  expect(texts(await read(manager.logs('plugin', { lines: 2 })))).toEqual(['b', 'c']);
  expect(await read(manager.logs('plugin', { lines: 0 }))).toEqual([]);
  expect(texts(await read(manager.logs('plugin', { lines: 5_000 })))).toEqual(['a', 'b', 'c']);
  expect(texts(await read(manager.logs('plugin', { lines: undefined, follow: undefined, signal: undefined })))).toHaveLength(3);
});

test('logs follow: no gap and no line twice between what is kept and what follows', async () => {
  const manager = world.manager();
  await manager.startProcess(numbering());
  const all = read(manager.logs('plugin', { follow: true }), (entries) => entries.length === COUNT);
  // Followers that come at any moment.
  const later = [];
  while (manager.getOutput('plugin', 1)[0] !== String(COUNT - 1) && later.length < 40) {
    const lines = manager.getOutput('plugin').length;
    later.push(read(manager.logs('plugin', { follow: true }), (entries) => Number(entries.at(-1).line) >= COUNT - 20));
    await until(() => manager.getOutput('plugin').length !== lines || manager.getOutput('plugin').length === 1_000);
  }
  expectWhole(await all);
  expect(later.length).toBeGreaterThan(0);
  for (const follower of later) {
    const entries = await follower;
    for (const stream of ['stdout', 'stderr']) {
      const seen = numbers(entries, stream);
      expect(seen).toEqual(expected(COUNT, stream).slice(expected(COUNT, stream).indexOf(seen[0])).slice(0, seen.length));
    }
  }
});

test('logs follow: goes on across a restart, and across a stop and a start', async () => {
  const manager = world.manager();
  await manager.startProcess(numbering(30, 30, { restart: { delay: 0 } }));
  const pids = [manager.getPid('plugin')];
  const entries = read(manager.logs('plugin', { follow: true }), (lines) => lines.length === 90);
  await kept(manager, 30);
  await runningAgain(manager, await crash(manager));
  pids.push(manager.getPid('plugin'));
  await kept(manager, 60);
  await manager.stopProcess('plugin');
  await manager.startProcess(numbering(30, 30));
  pids.push(manager.getPid('plugin'));
  const lines = await entries;
  expect([0, 1, 2].map((start) => lines.slice(start * 30, start * 30 + 30).map(({ pid }) => pid))).toEqual(
    pids.map((pid) => Array(30).fill(pid)),
  );
  for (const start of [0, 30, 60]) expectWhole(lines.slice(start, start + 30), 30);
});

test('logs follow: ends when the plugin is forgotten, after the last line', async () => {
  const manager = world.manager();
  await manager.startProcess(printing('--out', 'only'));
  await kept(manager, 1);
  const [followed, unread] = [read(manager.logs('plugin', { follow: true })), manager.logs('plugin', { follow: true })];
  await manager.stopProcess('plugin');
  expect(manager.forgetProcess('plugin')).toBe(true);
  expect(texts(await followed)).toEqual(['only']);
  expect(texts(await read(unread))).toEqual(['only']);
  expect(thrown(() => manager.logs('plugin'))).toMatchObject({ code: 'ERR_NOT_FOUND' });
});

test('logs signal: an abort ends the iteration without an error', async () => {
  const manager = world.manager();
  await manager.startProcess(printing('--out', 'only'));
  await kept(manager, 1);
  const controller = new AbortController();
  const logs = manager.logs('plugin', { follow: true, signal: controller.signal });
  expect(await logs.next()).toMatchObject({ done: false, value: { line: 'only' } });
  const waiting = [logs.next(), logs.next()];
  controller.abort(new Error('enough'));
  for (const next of [...waiting, logs.next()]) expect(await next).toEqual({ value: undefined, done: true });
  // What waits to be read is dropped.
  const aborted = new AbortController();
  const unread = manager.logs('plugin', { signal: aborted.signal });
  aborted.abort();
  expect(await read(unread)).toEqual([]);
  expect(await read(manager.logs('plugin', { follow: true, signal: AbortSignal.abort() }))).toEqual([]);
});

test('logs: return() and throw() end it, and release what waits', async () => {
  const manager = world.manager();
  await manager.startProcess(printing('--out', 'only'));
  await kept(manager, 1);
  const logs = manager.logs('plugin', { follow: true, lines: 0 });
  expect(logs[Symbol.asyncIterator]()).toBe(logs);
  const waiting = logs.next();
  expect(await logs.return('done')).toEqual({ value: 'done', done: true });
  expect(await waiting).toEqual({ value: undefined, done: true });
  expect(await logs.next()).toEqual({ value: undefined, done: true });
  const failed = manager.logs('plugin', { follow: true });
  expect(await failure(failed.throw(new Error('mine')))).toMatchObject({ message: 'mine' });
  expect(await failed.next()).toEqual({ value: undefined, done: true });
  const disposed = manager.logs('plugin', { follow: true });
  await disposed[Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')]();
  expect(await read(disposed)).toEqual([]);
});

test('logs follow: a slow reader loses the oldest lines, is told how many, and holds nobody up', async () => {
  const manager = world.manager();
  // More lines than a follower keeps, and of each stream fewer: the last ones of both are there, whichever pipe is read first.
  const count = 4_900;
  const marker = world.path('go');
  await manager.startProcess(world.config('plugin', ['numbers-its-lines.py', count, 1_000, marker]));
  const logs = manager.logs('plugin', { follow: true });
  fs.writeFileSync(marker, '');
  // Another follower of the same daemon, which reads, sees the end while the slow one has not read at all.
  await read(manager.logs('plugin', { follow: true }), untilLast(count));
  const entries = await read(logs, untilLast(count));
  const dropped = entries.reduce((sum, entry) => sum + (entry.dropped ?? 0), 0);
  const lines = entries.filter((entry) => entry.dropped === undefined);
  expect(entries[0]).toEqual({ dropped });
  expect(dropped + lines.length).toBe(count);
  expect(lines).toHaveLength(4_000);
  for (const stream of ['stdout', 'stderr']) {
    const seen = numbers(lines, stream);
    expect(seen).toEqual(expected(count, stream).slice(-seen.length));
  }
});

test('logs follow: a flood leaves turns of the event loop for others', async () => {
  const manager = world.manager();
  const marker = world.path('flooded');
  await manager.startProcess(world.config('plugin', ['floods.py', 24, marker]));
  const logs = manager.logs('plugin', { follow: true });
  // Asked for before the flood: the first call reads all lines that are there.
  const first = logs.next();
  fs.writeFileSync(`${marker}.go1`, '');
  let turns = 0;
  const turn = () => {
    turns++;
    immediate = setImmediate(turn);
  };
  let immediate = setImmediate(turn);
  world.finally(() => clearImmediate(immediate));
  await first;
  // The entries between two turns.
  let [entries, longest, before] = [0, 0, turns];
  // A follower keeps more than so many batches, however fast the flood is.
  const last = turns + 10;
  for await (const _ of logs) {
    entries = turns === before ? entries + 1 : 1;
    before = turns;
    longest = Math.max(longest, entries);
    if (turns >= last) break;
  }
  expect(longest).toBeGreaterThan(1);
  // A batch, and a count of dropped lines.
  expect(longest).toBeLessThanOrEqual(257);
});

test('ERR_NOT_FOUND: logs of an unknown plugin', () => {
  const error = thrown(() => world.manager().logs('nobody', { follow: true }));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_NOT_FOUND', pluginName: 'nobody', message: expect.stringContaining("'nobody' is not known") });
});

test.each([
  ['options', 7, 'options must be an object'],
  ['options.lines', { lines: -1 }, 'options.lines must be a whole number of lines from 0 upwards, got -1'],
  ['options.lines', { lines: 1.5 }, 'options.lines must be a whole number of lines from 0 upwards, got 1.5'],
  ['options.lines', { lines: Number.NaN }, 'options.lines must be'],
  ['options.lines', { lines: '5' }, 'options.lines must be a whole number of lines, got a string'],
  ['options.follow', { follow: 'yes' }, 'options.follow must be a boolean, got a string'],
  ['options.signal', { signal: {} }, 'options.signal must be an AbortSignal'],
])('ERR_INVALID_CONFIG: logs with a wrong %s: %j', async (_, options, message) => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const error = thrown(() => manager.logs('plugin', options));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', pluginName: 'plugin', message: expect.stringContaining(message) });
});
