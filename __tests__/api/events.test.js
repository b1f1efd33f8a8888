'use strict';

const fs = require('node:fs');
const { EventEmitter } = require('node:events');
const { record } = require('../helpers/events');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

test('events: the manager is an EventEmitter with once, off and removeAllListeners', async () => {
  const manager = world.manager();
  expect(manager).toBeInstanceOf(EventEmitter);
  const once = [];
  const off = [];
  const listener = (event) => off.push(event);
  manager.once('stateChange', (event) => once.push(event));
  manager.on('stateChange', listener);
  manager.off('stateChange', listener);
  const events = record(manager);
  await manager.startProcess(world.config());
  await until(() => events.states('plugin').length === 2);
  expect(once).toHaveLength(1);
  expect(off).toEqual([]);
  expect(manager.listenerCount('exit')).toBe(1);
  manager.removeAllListeners();
  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBe('stopped');
  expect(events.states('plugin')).toHaveLength(2);
});

test('stateChange: has from, to, pid and time', async () => {
  const manager = world.manager();
  const events = record(manager);
  const before = Date.now();
  await manager.startProcess(world.config());
  const pid = manager.getPid('plugin');
  await manager.stopProcess('plugin');
  await until(() => events.states('plugin').length === 4);

  const changes = events.of('stateChange');
  expect(changes.map(({ pluginName, from, to }) => ({ pluginName, from, to }))).toEqual([
    { pluginName: 'plugin', from: undefined, to: 'starting' },
    { pluginName: 'plugin', from: 'starting', to: 'running' },
    { pluginName: 'plugin', from: 'running', to: 'stopping' },
    { pluginName: 'plugin', from: 'stopping', to: 'stopped' },
  ]);
  expect(changes[1].pid).toBe(pid);
  expect(changes[2].pid).toBe(pid);
  expect([changes[0].pid, changes[3].pid]).toEqual([undefined, undefined]);
  let last = before - 1;
  for (const { at } of changes) {
    expect(at).toBeInstanceOf(Date);
    expect(at.getTime()).toBeGreaterThanOrEqual(last);
    last = at.getTime();
  }
  expect(last).toBeLessThanOrEqual(Date.now() + 1);

  await manager.startProcess(world.config());
  await until(() => events.states('plugin').length === 6);
  expect(events.of('stateChange')[4]).toMatchObject({ from: 'stopped', to: 'starting' });
});

test('exit and restart: come in order after a crash, before the next running', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { delay: 0 } }));
  const pid = manager.getPid('plugin');
  process.kill(pid, 'SIGKILL');
  await until(() => events.states('plugin').length === 4);

  const exit = events.of('exit');
  expect(exit).toEqual([{ type: 'exit', pluginName: 'plugin', pid, signal: 'SIGKILL', reason: 'crashed' }]);
  const [restart] = events.of('restart');
  expect(restart).toEqual({ type: 'restart', pluginName: 'plugin', attempt: 1, delay: 0, reason: 'crashed' });
  const order = events.all.map(({ type, to }) => to ?? type);
  expect(order.indexOf('exit')).toBeLessThan(order.lastIndexOf('running'));
  expect(order.indexOf('restart')).toBeLessThan(order.lastIndexOf('running'));
  expect(events.states('plugin')).toEqual(['starting', 'running', 'starting', 'running']);
});

test('stateChange: from is always the previous to, and never equal to to', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(
    world.config('plugin', ['differs-by-start.py', world.path('starts'), 'good', 'refuse', 'good'], {
      restart: { delay: 5, jitter: 0 },
      healthcheck: { interval: 20, timeout: 200, retries: 2 },
    }),
  );
  process.kill(manager.getPid('plugin'), 'SIGKILL');
  await until(() => manager.getProcessInfo('plugin').totalRestarts >= 1 && manager.isRunning('plugin'));
  fs.unlinkSync(world.socket('plugin'));
  await until(() => events.states('plugin').includes('stopping'));
  await until(() => manager.isRunning('plugin'));
  await manager.restartProcess('plugin');
  await manager.stopAllProcesses();
  await until(() => events.states('plugin').at(-1) === 'stopped');

  const changes = events.of('stateChange');
  changes.forEach(({ from, to }, index) => {
    expect(from).not.toBe(to);
    if (index > 0) expect(from).toBe(changes[index - 1].to);
  });
});

test('events: of two plugins name their own plugin', async () => {
  const manager = world.manager();
  const events = record(manager);
  await Promise.all(['one', 'two'].map((name) => manager.startProcess(world.config(name))));
  await manager.stopProcess('one');
  await until(() => events.states('one').length === 4);
  expect(events.states('one')).toEqual(['starting', 'running', 'stopping', 'stopped']);
  expect(events.states('two')).toEqual(['starting', 'running']);
  expect(events.of('exit').map(({ pluginName }) => pluginName)).toEqual(['one']);
});

test('events: of two managers reach their own manager only', async () => {
  const [one, two] = [world.manager(), world.manager()];
  const [first, second] = [record(one), record(two)];
  await one.startProcess(world.config('one'));
  await two.startProcess(world.config('two'));
  await until(() => first.all.length === 2 && second.all.length === 2);
  expect(first.of('stateChange', 'two')).toEqual([]);
  expect(second.of('stateChange', 'one')).toEqual([]);
});

test("events: a failed start emits no 'error'", async () => {
  const manager = world.manager();
  const errors = [];
  manager.on('error', (error) => errors.push(error));
  await expect(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1]))).rejects.toThrow();
  await expect(manager.startProcess(world.config('plugin', [], { command: '/no/such' }))).rejects.toThrow();
  expect(errors).toEqual([]);
});

test('events: a listener may start another plugin', async () => {
  const manager = world.manager();
  const second = new Promise((resolve, reject) => {
    manager.on('stateChange', ({ pluginName, to }) => {
      if (pluginName === 'first' && to === 'running') manager.startProcess(world.config('second')).then(resolve, reject);
    });
  });
  await manager.startProcess(world.config('first'));
  await second;
  expect(manager.listProcesses().map(({ state }) => state)).toEqual(['running', 'running']);
});

test('events: a listener may stop its plugin', async () => {
  const manager = world.manager();
  const stopped = new Promise((resolve, reject) => {
    manager.on('stateChange', ({ to, pluginName }) => {
      if (to === 'running') manager.stopProcess(pluginName).then(resolve, reject);
    });
  });
  await manager.startProcess(world.config('plugin'));
  await stopped;
  expect(manager.getState('plugin')).toBe('stopped');
  expectNothingLeft(world, 'plugin');
});
