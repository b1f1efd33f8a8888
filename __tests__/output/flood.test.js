'use strict';

const fs = require('node:fs');
const { alive, children, signal } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

const MIB = 24;

test('output flood: both streams are drained, and the owner grows by no more than its buffers', async () => {
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

test('output flood: is drained while JavaScript blocks its event loop', async () => {
  const manager = world.manager();
  const marker = world.path('flooded');
  await manager.startProcess(world.config('plugin', ['floods.py', 4, marker]));
  fs.writeFileSync(`${marker}.go`, '');
  // Not one turn of the loop from here on.
  const end = performance.now() + 15_000;
  while (!fs.existsSync(marker) && performance.now() < end);
  expect(fs.existsSync(marker)).toBe(true);
});

test("output flood: disturbs neither stopProcess nor 'output' listeners", async () => {
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

test('output: a descendant that holds the pipe open does not delay ERR_STARTUP_EXIT', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  const began = performance.now();
  // killMode 'group' leaves it alive with the descriptors of the leader.
  const error = await failure(
    manager.startProcess(world.config('plugin', ['leads-a-tree.py', marker, '--exit', 3, 'fled'], { killMode: 'group' })),
  );
  const { fled } = await world.tree(marker);
  world.finally(() => signal(fled, 'SIGKILL'));
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3 });
  expect(error.stderr).toContain('the leader exits');
  expect(performance.now() - began).toBeLessThan(5_000);
  expect(alive(fled)).toBe(true);
});

test("output: a descendant that holds the pipe open does not delay the last line, which comes before 'exit'", async () => {
  const manager = world.manager();
  const seen = [];
  manager.on('output', ({ line }) => seen.push(line));
  manager.on('exit', ({ reason }) => seen.push(reason));
  const willing = world.config('plugin', ['serves.py'], { restart: { maxAttempts: 0 }, killMode: 'group' });
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

test('output: a descendant that holds the pipe open delays no restart and no stop', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await manager.startProcess(world.config('plugin', ['leads-a-tree.py', marker, 'fled'], { killMode: 'group', restart: { delay: 0 } }));
  const first = await world.tree(marker);
  world.finally(() => signal(first.fled, 'SIGKILL'));
  const pid = manager.getPid('plugin');
  fs.unlinkSync(marker);
  let began = performance.now();
  process.kill(pid, 'SIGKILL');
  await until(() => manager.getPid('plugin') !== pid && manager.isRunning('plugin'));
  expect(performance.now() - began).toBeLessThan(4_000);
  const second = await world.tree(marker);
  world.finally(() => signal(second.fled, 'SIGKILL'));

  began = performance.now();
  await manager.stopProcess('plugin');
  expect(performance.now() - began).toBeLessThan(4_000);
  expect([first.fled, second.fled].map(alive)).toEqual([true, true]);
});
