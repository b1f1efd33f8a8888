'use strict';

const fs = require('node:fs');
const { EventEmitter } = require('node:events');
const { record, useWorld } = require('./helpers/world');
const { until } = require('./helpers/until');

const world = useWorld();

test('the manager is an emitter like any other', async () => {
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

test('stateChange tells from where to where, of which process, and when', async () => {
  const manager = world.manager();
  const events = record(manager);
  const before = Date.now();
  await manager.startProcess(world.config());
  const pid = manager.getPid('plugin');
  await manager.stopProcess('plugin');
  await until(() => events.states('plugin').length === 4);

  const changes = events.of('stateChange');
  expect(changes.map(({ pluginName, from, to }) => ({ pluginName, from, to }))).toEqual([
    { pluginName: 'plugin', from: changes[0].from, to: 'starting' },
    { pluginName: 'plugin', from: 'starting', to: 'running' },
    { pluginName: 'plugin', from: 'running', to: 'stopping' },
    { pluginName: 'plugin', from: 'stopping', to: 'stopped' },
  ]);
  // Of a plugin that was unknown until then.
  expect([undefined, 'stopped']).toContain(changes[0].from);
  expect(changes[1].pid).toBe(pid);
  expect(changes[2].pid).toBe(pid);
  expect(changes[3].pid === undefined || changes[3].pid === pid).toBe(true);
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

test('exit and restart tell of the crash in its order', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(world.config('plugin', ['willing.py'], { restart: { delay: 0 } }));
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

test('no state follows itself, whatever happens to a daemon', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(
    world.config('plugin', ['by-turns.py', world.path('starts'), 'good', 'refuse', 'good'], {
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

test('the events of two plugins are each about their own', async () => {
  const manager = world.manager();
  const events = record(manager);
  await Promise.all(['one', 'two'].map((name) => manager.startProcess(world.config(name))));
  await manager.stopProcess('one');
  await until(() => events.states('one').length === 4);
  expect(events.states('one')).toEqual(['starting', 'running', 'stopping', 'stopped']);
  expect(events.states('two')).toEqual(['starting', 'running']);
  expect(events.of('exit').map(({ pluginName }) => pluginName)).toEqual(['one']);
});

test('the events of two managers are each about their own', async () => {
  const [one, two] = [world.manager(), world.manager()];
  const [first, second] = [record(one), record(two)];
  await one.startProcess(world.config('one'));
  await two.startProcess(world.config('two'));
  await until(() => first.all.length === 2 && second.all.length === 2);
  expect(first.of('stateChange', 'two')).toEqual([]);
  expect(second.of('stateChange', 'one')).toEqual([]);
});

test('a failure is no error event, so nobody has to listen for one', async () => {
  const manager = world.manager();
  const errors = [];
  manager.on('error', (error) => errors.push(error));
  await expect(manager.startProcess(world.config('plugin', ['exits.py', '--code', 1]))).rejects.toThrow();
  await expect(manager.startProcess(world.config('plugin', [], { command: '/no/such' }))).rejects.toThrow();
  expect(errors).toEqual([]);
});

test('a listener that throws is an uncaught exception as with any emitter, and disturbs nothing', async () => {
  const owner = world.owner('throws-in-listeners.js', {
    configs: [
      world.config('plugin', ['beats.py', world.path('beats')], {
        restart: { delay: 0 },
        healthcheck: { interval: 20, timeout: 1_000, retries: 3 },
      }),
    ],
  });
  const done = await owner.says('done');
  expect(done).toMatchObject({ first: expect.any(Number), second: expect.any(Number), state: 'stopped', restarts: 1 });
  expect(done.second).not.toBe(done.first);
  for (const type of ['stateChange', 'exit', 'restart', 'health', 'output']) expect(done.thrown[type]).toBeGreaterThan(0);
  // Every change was announced, though each announcement threw: two starts, a crash between them, a stop.
  await owner.closed;
  expect(done.thrown.stateChange).toBeGreaterThanOrEqual(4);
  expect(await owner.exited).toEqual({ code: 0, signal: null });
});

test('a listener may start another plugin', async () => {
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
