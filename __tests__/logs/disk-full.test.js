'use strict';

const { useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner } = useCommandedOwner(world);

const KIB = 1024;

/** An owner that sees a disk of its own at `folder`. */
const withDisk = (folder, size) => {
  const mount = `mkdir ${folder} && mount -t tmpfs -o size=${size} tmpfs ${folder} && exec "$@"`;
  return commandedOwner({ logged: true }, { before: ['unshare', '-m', '/bin/sh', '-c', mount, 'sh'] });
};

/** Per marker: the lines that it names, and those that are missing there. Without a marker that too little follows. */
function gaps(text) {
  const next = new Map();
  const found = [];
  for (const line of text.split('\n').slice(0, -1)) {
    const [, dropped] = /^\[ally\] (\d+) lines were dropped: ENOSPC$/.exec(line) ?? [];
    const [, stream, number] = /^\d+ (out|err) (\d+) \.{80}$/.exec(line) ?? [];
    if (dropped !== undefined) found.push({ dropped: Number(dropped), missing: 0, seen: new Set() });
    else if (stream === undefined) throw new Error(`a broken line: ${line}`);
    else {
      const missing = Number(number) - (next.get(stream) ?? 0);
      const gap = found.at(-1);
      if (missing < 0 || (missing > 0 && !gap)) throw new Error(`${line.slice(0, 30)} after ${next.get(stream)}`);
      if (gap) gap.missing += missing;
      gap?.seen.add(stream);
      next.set(stream, Number(number) + 1);
    }
  }
  return found.filter(({ seen }) => seen.size === 2);
}

testWith('namespaces of its own')('logs.file: a full disk costs lines, which a marker and a metric count, and nothing else', async () => {
  const disk = world.path('disk');
  const [file, ballast] = [`${disk}/plugin.log`, `${disk}/ballast`];
  const owner = withDisk(disk, 600 * KIB);
  await owner.asks('write', ballast, 300 * KIB);
  await owner.asks('startProcess', world.config('plugin', ['prints-numbered-lines.py', world.path('count')], { logs: { file } }));
  const { value: pid } = await owner.asks('getPid', 'plugin');
  const records = async (text) => (await owner.asks('records')).value.filter((record) => record.includes(text));
  const read = async () => (await owner.asks('read', file)).value;
  await until(async () => (await records("the log file can't be written: ENOSPC")).length > 0, 10_000, 'the disk is full');

  await owner.asks('remove', ballast);
  const found = async () => {
    const whole = gaps(await read());
    return whole.length > 0 && whole;
  };
  const [first] = await until(found, 10_000, 'lines are written again, and a marker counts the missing ones');
  expect(first.dropped).toBeGreaterThan(0);
  expect(first.missing).toBe(first.dropped);

  const counted = async () => {
    const { value } = await owner.asks('metricsText');
    return Number(/^ally_daemon_output_dropped_lines_total\{plugin="plugin"\} (\d+)$/m.exec(value)[1]);
  };
  await until(async () => (await records('lines are missing in the log file')).length > 0, 10_000, 'the logger is told');
  expect(await counted()).toBeGreaterThanOrEqual(first.dropped);
  expect((await owner.asks('getPid', 'plugin')).value).toBe(pid);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
});
