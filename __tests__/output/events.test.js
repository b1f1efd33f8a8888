'use strict';

const fs = require('node:fs');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { usePrinted } = require('./printed');

const world = useWorld();
const { pieces } = usePrinted(world);

test("'output' event: has plugin, stream and line", async () => {
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

test("'output' event: comes while there is a listener, and not for earlier lines", async () => {
  const manager = world.manager();
  const beats = world.path('beats');
  await manager.startProcess(world.config('plugin', ['prints-and-counts.py', beats]));
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
