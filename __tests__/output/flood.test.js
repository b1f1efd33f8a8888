'use strict';

const fs = require('node:fs');
const { useCommandedOwner } = require('../helpers/commanded-owner');
const { testOnLinux } = require('../helpers/needs');
const { alive, children, forgetPeak, resident, residentPeak } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config } = useCommandedOwner(world);

/** Starts the next flood of floods.py and waits until it is written. */
async function flood(marker, number) {
  fs.writeFileSync(`${marker}.go${number}`, '');
  await until(() => fs.existsSync(`${marker}.${number}`), 20_000, `flood ${number} is written`);
}

testOnLinux('output flood: both streams are drained, and the owner grows by 1 MiB a daemon at most', async () => {
  const marker = world.path('flooded');
  // A process of its own, whose JavaScript does nothing meanwhile.
  const owner = commandedOwner();
  expect(await owner.asks('startProcess', config('plugin', ['floods.py', 24, marker]))).toEqual({});
  const before = resident(owner.pid);
  forgetPeak(owner.pid);
  for (let number = 1; number <= 2; number++) await flood(marker, number);
  const growth = residentPeak(owner.pid) - before;
  expect(growth).toBeLessThanOrEqual(1_024);
  const { value: lines } = await owner.asks('getOutput', 'plugin');
  expect(lines).toEqual(Array(1_000).fill('f'.repeat(127)));
  expect((await owner.asks('isRunning', 'plugin')).value).toBe(true);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
});

test('output flood: is drained while JavaScript blocks its event loop', async () => {
  const manager = world.manager();
  const marker = world.path('flooded');
  await manager.startProcess(world.config('plugin', ['floods.py', 4, marker]));
  fs.writeFileSync(`${marker}.go1`, '');
  // The event loop gets no turn from here on.
  const end = performance.now() + 15_000;
  while (!fs.existsSync(`${marker}.1`) && performance.now() < end);
  expect(fs.existsSync(`${marker}.1`)).toBe(true);
});

test("output flood: disturbs neither stopProcess nor 'output' listeners", async () => {
  const manager = world.manager();
  const marker = world.path('flooded');
  let lines = 0;
  manager.on('output', () => lines++);
  await manager.startProcess(world.config('plugin', ['floods.py', 1_000_000, marker]));
  fs.writeFileSync(`${marker}.go1`, '');
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
  world.killAtEnd(fled);
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
  world.killAtEnd(sleeper);
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
  world.killAtEnd(first.fled);
  const pid = manager.getPid('plugin');
  fs.unlinkSync(marker);
  let began = performance.now();
  process.kill(pid, 'SIGKILL');
  await until(() => runsAnew(manager, 'plugin', pid));
  expect(performance.now() - began).toBeLessThan(4_000);
  const second = await world.tree(marker);
  world.killAtEnd(second.fled);

  began = performance.now();
  await manager.stopProcess('plugin');
  expect(performance.now() - began).toBeLessThan(4_000);
  expect([first.fled, second.fled].map(alive)).toEqual([true, true]);
});
