'use strict';

const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { usePrinted } = require('./printed');

const world = useWorld();
const { printed, pieces } = usePrinted(world);

test('getOutput: has the lines of both streams, each in its order', async () => {
  const lines = await printed([1, 'out 1\nout 2\n'], [2, 'err 1\nerr 2\n'], [1, 'out 3\n']);
  expect(lines).toHaveLength(5);
  expect(lines.filter((line) => line.startsWith('out'))).toEqual(['out 1', 'out 2', 'out 3']);
  expect(lines.filter((line) => line.startsWith('err'))).toEqual(['err 1', 'err 2']);
});

test('getOutput: count limits the lines to the last ones, oldest first', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', pieces([1, 'a\nb\nc\nd\n'])));
  await until(() => manager.getOutput('plugin').length === 4);
  expect(manager.getOutput('plugin', 2)).toEqual(['c', 'd']);
  expect(manager.getOutput('plugin', 1)).toEqual(['d']);
  expect(manager.getOutput('plugin', 100)).toEqual(['a', 'b', 'c', 'd']);
  expect(manager.getOutput('plugin', 0)).toEqual([]);
  expect(manager.getOutput('nobody', 2)).toEqual([]);
});

test('getOutput: keeps the last 1,000 lines', async () => {
  const all = Array.from({ length: 2_500 }, (_, index) => `line ${index}`);
  expect(await printed([1, `${all.join('\n')}\n`])).toEqual(all.slice(-1_000));
});

test('getOutput: keeps the last 256 KiB', async () => {
  const all = Array.from({ length: 600 }, (_, index) => `${index} `.padEnd(1_024, 'x'));
  const lines = await printed([1, `${all.join('\n')}\n`]);
  expect(lines.length).toBeGreaterThanOrEqual(250);
  expect(lines.length).toBeLessThanOrEqual(256);
  expect(lines).toEqual(all.slice(-lines.length));
});

test('getOutput: keeps empty lines and blanks', async () => {
  expect(await printed([1, 'a\n\n  b  \n\t\n'])).toEqual(['a', '', '  b  ', '\t']);
});

test('getOutput: keeps a last line without a line end', async () => {
  expect(await printed([1, 'whole\nhalf a li'])).toEqual(['whole', 'half a li']);
  const manager = world.manager();
  await failure(manager.startProcess(world.config('other', ['exits.py', '--code', 1])));
  expect(manager.getOutput('other')).toEqual([]);
});

test('getOutput: joins a line that was written in pieces', async () => {
  expect(await printed([1, 'one '], [1, 'line\nand an'], [1, 'other\n'])).toEqual(['one line', 'and another']);
});

test('getOutput: joins a UTF-8 character that was written in pieces', async () => {
  const bytes = Buffer.from('Grüße, 日本 🦀\n');
  const cuts = [3, 12, 15, 19];
  const list = [...cuts, bytes.length].map((end, index) => [1, bytes.subarray(cuts[index - 1] ?? 0, end)]);
  expect(await printed(...list)).toEqual(['Grüße, 日本 🦀']);
});

test('getOutput: replaces invalid UTF-8 by U+FFFD', async () => {
  const lines = await printed([2, Buffer.from([0x61, 0xff, 0x62, 0x0a, 0xc3, 0x28, 0x0a, 0xe2, 0x82, 0x0a, 0x80, 0x0a])]);
  expect(lines).toEqual(['a\ufffdb', '\ufffd(', '\ufffd', '\ufffd']);
});

test('getOutput: keeps control characters', async () => {
  expect(await printed([1, '\x1b[1mbold\x1b[0m\x07\x00end\n'])).toEqual(['\x1b[1mbold\x1b[0m\x07\x00end']);
});

test('getOutput: splits lines over 64 KiB and loses nothing', async () => {
  const long = Array.from({ length: 15_000 }, (_, index) => String(index).padStart(10, '.')).join('');
  const lines = await printed([1, `before\n${long}\nafter\n`]);
  expect(lines[0]).toBe('before');
  expect(lines.at(-1)).toBe('after');
  const parts = lines.slice(1, -1);
  expect(parts.join('')).toBe(long);
  expect(parts).toHaveLength(Math.ceil(long.length / 65_536));
  for (const part of parts) expect(Buffer.byteLength(part)).toBeLessThanOrEqual(65_536);
});

test('getOutput: splits no character at 64 KiB', async () => {
  const long = `.${'ü'.repeat(50_000)}`;
  const parts = await printed([1, `${long}\n`]);
  expect(parts.join('')).toBe(long);
  expect(parts.length).toBeGreaterThan(1);
});

test("getOutput: has the lines of the leader's children", async () => {
  const manager = world.manager();
  const source = `echo from the child; sh -c 'echo from the grandchild' & wait; exec "$@"`;
  const willing = world.config('plugin');
  await manager.startProcess({ ...willing, command: '/bin/sh', args: ['-c', source, 'sh', willing.command, ...willing.args] });
  await until(() => manager.getOutput('plugin').length === 2);
  expect(manager.getOutput('plugin').sort()).toEqual(['from the child', 'from the grandchild']);
});

test('getOutput: keeps lines over a restart', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', pieces([1, 'hello\n']), { restart: { delay: 0 } }));
  await until(() => manager.getOutput('plugin').length === 1);
  process.kill(manager.getPid('plugin'), 'SIGKILL');
  await until(() => manager.getOutput('plugin').length === 2);
  expect(manager.getOutput('plugin')).toEqual(['hello', 'hello']);
});
