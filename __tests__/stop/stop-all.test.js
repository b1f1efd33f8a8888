'use strict';

const fs = require('node:fs');
const { testWith } = require('../helpers/needs');
const { identify } = require('../helpers/proc');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

test('stopAllProcesses: stops all at once, and later starts are ERR_SHUTTING_DOWN', async () => {
  const manager = world.manager();
  const names = ['a', 'b', 'c', 'd'];
  await Promise.all(names.map((name) => manager.startProcess(world.config(name, ['ignores-signals.py'], { shutdownGracePeriod: 700 }))));
  const daemons = names.map((name) => identify(manager.getPid(name)));
  const began = performance.now();
  const all = manager.stopAllProcesses();
  const early = failure(manager.startProcess(world.config('e')));
  await expect(all).resolves.toBeUndefined();
  const took = performance.now() - began;
  expect(took).toBeGreaterThanOrEqual(695);
  // Four grace periods in a row would take longer.
  expect(took).toBeLessThan(2_700);
  for (const [index, name] of names.entries()) expectNothingLeft(world, name, [daemons[index]]);
  expect(names.map((name) => manager.getState(name))).toEqual(names.map(() => 'stopped'));

  const late = failure(manager.startProcess(world.config('a')));
  for (const error of [await early, await late]) {
    expect(error).toBeInstanceOf(Error);
    expect(error.code).toBe('ERR_SHUTTING_DOWN');
    expect(error.message).toContain('Cannot start process during shutdown');
  }
  expect((await late).pluginName).toBe('a');
  expect((await failure(manager.restartProcess('a'))).code).toBe('ERR_SHUTTING_DOWN');
  expect(manager.getState('a')).toBe('stopped');
  expect(manager.getState('e')).toBeUndefined();
});

test('stopAllProcesses: stops starting plugins and cancels pending restarts', async () => {
  const manager = world.manager();
  const counter = world.path('starts');
  await manager.startProcess(world.config('crashed', ['differs-by-start.py', counter, 'good'], { restart: { delay: 20_000 } }));
  process.kill(manager.getPid('crashed'), 'SIGKILL');
  await until(() => manager.getProcessInfo('crashed').nextRestartAt);
  const start = watch(manager.startProcess(world.config('starting', ['never-binds.py'])));
  await until(() => manager.getPid('starting'));
  const all = manager.stopAllProcesses();
  // Before the daemons have heard of it.
  const late = ['starting', 'crashed'].map((name) => failure(manager.restartProcess(name)));
  await all;
  expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
  for (const error of await Promise.all(late)) expect(error.code).toBe('ERR_SHUTTING_DOWN');
  expect(manager.listProcesses().map(({ state }) => state)).toEqual(['stopped', 'stopped']);
  expect(fs.readFileSync(counter, 'utf8')).toBe('1');
});

test('stopAllProcesses: resolves without plugins and on every further call', async () => {
  const manager = world.manager();
  await expect(Promise.all([manager.stopAllProcesses(), manager.stopAllProcesses()])).resolves.toEqual([undefined, undefined]);
  await expect(manager.stopAllProcesses()).resolves.toBeUndefined();
  expect((await failure(manager.startProcess(world.config()))).code).toBe('ERR_SHUTTING_DOWN');
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test('stopAllProcesses: concerns one manager only', async () => {
  const [one, two] = [world.manager(), world.manager()];
  await two.startProcess(world.config('two'));
  await one.stopAllProcesses();
  expect(two.isRunning('two')).toBe(true);
  await two.startProcess(world.config('three'));
  expect(two.isRunning('three')).toBe(true);
});

testWith('Symbol.asyncDispose')('Symbol.asyncDispose: is stopAllProcesses', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  const daemon = identify(manager.getPid('plugin'));
  await expect(manager[Symbol.asyncDispose]()).resolves.toBeUndefined();
  expectNothingLeft(world, 'plugin', [daemon]);
  expect((await failure(manager.startProcess(world.config()))).code).toBe('ERR_SHUTTING_DOWN');
});
