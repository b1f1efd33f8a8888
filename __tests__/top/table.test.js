'use strict';

const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { stripVTControlCharacters } = require('node:util');
const { ROOT } = require('../helpers/needs');

const TABLE = path.join(ROOT, 'cli', 'table.js');

/** An expression over the exports of the module. A program of its own evaluates it, because jest can't load an ES module. */
function evaluate(expression, ...args) {
  const source = `import * as table from ${JSON.stringify(TABLE)};
    const { daemonTable, textWidth, cut, printable } = table;
    await table.loadWidths();
    const args = JSON.parse(process.argv[1]);
    console.log(JSON.stringify((${expression})(...args)));`;
  return JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', source, JSON.stringify(args)], { encoding: 'utf8' }));
}

const lines = (daemons, options = {}) => evaluate('daemonTable', daemons, options);
const running = (name, more) => ({
  name,
  state: 'running',
  pid: 4711,
  uptime: 65_000,
  restarts: 2,
  cpuPercent: 12.34,
  memory: 3 * 2 ** 20,
  lastProbe: { passed: true, latency: 0.25 },
  ...more,
});

test('top, table: columns are aligned, numbers at the right, absent values are "-"', () => {
  const daemons = [
    running('search'),
    { name: 'notes', state: 'error', restarts: 10 },
    running('a', { lastProbe: { passed: false, latency: 500 } }),
  ];
  expect(lines(daemons)).toEqual([
    'NAME    STATE     PID  UPTIME  RESTARTS     CPU   MEMORY       LAST PROBE',
    'search  running  4711  1m 05s         2  12.3 %  3.0 MiB    passed 0.3 ms',
    'notes   error       -       -        10       -        -                -',
    'a       running  4711  1m 05s         2  12.3 %  3.0 MiB  failed 500.0 ms',
  ]);
});

test('top, table: without daemons it has its titles', () => {
  expect(lines([])).toEqual(['NAME  STATE  PID  UPTIME  RESTARTS  CPU  MEMORY  LAST PROBE']);
});

test('top, table: units of uptime and memory', () => {
  const second = 1000;
  const uptimes = [0, 59.9 * second, 60 * second, 3_600 * second, 26 * 3_600 * second];
  const cells = lines(
    uptimes.map((uptime) => ({ name: 'n', state: 's', uptime })),
    {},
  ).map((line) => line.slice(12, 24).trim());
  expect(cells.slice(1).map((cell) => cell.replace(/ +-$/, ''))).toEqual(
    uptimes.map((_, index) => expect.stringContaining(['0s', '59s', '1m 00s', '1h 00m', '1d 02h'][index])),
  );
  expect(lines([running('n', { memory: 1.5 * 2 ** 30 })])[1]).toContain('1.5 GiB');
});

test('top, table: a narrow terminal shortens names first, then cuts the lines', () => {
  const daemons = [running('a-plugin-with-a-long-name'), running('short')];
  const whole = lines(daemons)[0].length;
  expect(lines(daemons, { width: whole })).toEqual(lines(daemons));
  expect(lines(daemons, { width: whole - 5 })[1]).toMatch(/^a-plugin-with-a-lon… {2}running .* passed 0\.3 ms$/);
  const widths = Array.from({ length: whole }, (_, index) => index + 1);
  const found = evaluate(
    `(daemons, widths) => widths.map((width) => {
      const lines = [false, true].flatMap((colour) => daemonTable(daemons, { width, colour }));
      return { width, widest: Math.max(...lines.map(textWidth)), blanks: lines.some((line) => line !== line.trimEnd()) };
    })`,
    daemons,
    widths,
  );
  expect(found.filter(({ width, widest, blanks }) => widest > width || blanks)).toEqual([]);
  expect(lines(daemons, { width: 30 })[1]).toBe('a-plugi…  running  4711  1m 0…');
});

test('top, table: wide characters take two columns, combining ones none', () => {
  const names = ['搜索', 'e\u0301te\u0301', '🚀', 'plain'];
  const rows = lines(names.map((name) => running(name)));
  // The part from STATE on begins in the same column.
  const starts = evaluate('(rows) => rows.map((row) => textWidth(row.slice(0, row.search(/STATE|running/))))', rows);
  expect(new Set(starts)).toEqual(new Set([7]));
});

test('top, table: a cut never exceeds the width, and halves no character', () => {
  const texts = ['搜索搜索搜索', '𠀀𠀀𠀀𠀀𠀀', '🚀🚀🚀', '👩🏽👩🏽👩🏽', 'ab搜cd索', 'e\u0301e\u0301e\u0301e\u0301e\u0301'];
  const cuts = evaluate(
    '(texts) => texts.flatMap((text) => [1, 2, 3, 4, 5].map((width) => ({ text, width, got: cut(text, width), columns: textWidth(cut(text, width)) })))',
    texts,
  );
  for (const { text, width, got, columns } of cuts) {
    expect([text, got, columns <= width]).toEqual([text, got, true]);
    expect(got.isWellFormed?.() ?? true).toBe(true);
    if (got !== text) expect([text.startsWith(got.slice(0, -1)), got.at(-1)]).toEqual([true, '…']);
  }
  expect(cuts.find(({ text, width }) => text === 'ab搜cd索' && width === 5).got).toBe('ab搜…');
});

test('top, table: colours have no width, and end behind a cut', () => {
  const plain = lines([running('search')]);
  const coloured = lines([running('search')], { colour: true });
  const stripped = coloured.map((line) => stripVTControlCharacters(line));
  expect(stripped).toEqual(plain);
  expect(coloured[1]).toContain('\u001b[32mrunning\u001b[0m');
  const [, row] = lines([running('search')], { colour: true, width: 12 });
  expect(row).toBe('search  \u001b[32mrun…\u001b[0m');
});

test('top, table: a name has no control characters, escape sequences or direction marks', () => {
  const name = 'a\u001b[31mb\u001b]0;title\u0007\tc\nd\u202ee\u009b2Jf\u2028';
  expect(evaluate('printable', name)).toBe('ab]0;title cde2Jf');
  expect(lines([running(name)])[1]).toMatch(/^ab\]0;title cde2Jf {2}running/);
  expect(lines([running('\u0007')])[1]).toMatch(/^- {5}running/);
});
