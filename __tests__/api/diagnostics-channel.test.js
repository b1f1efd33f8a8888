'use strict';

const diagnostics = require('node:diagnostics_channel');
const { AsyncLocalStorage } = require('node:async_hooks');
const { record } = require('../helpers/events');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const EVENTS = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'];

/** What these channels publish until the end of the test. The channels of a TracingChannel by their names, as every Node has them. */
function subscribe(...names) {
  const seen = [];
  for (const name of names) {
    const listener = (message) => seen.push([name, message]);
    const channel = diagnostics.channel(name);
    channel.subscribe(listener);
    world.finally(() => channel.unsubscribe(listener));
  }
  return seen;
}

const traces = (...calls) => subscribe(...calls.flatMap((call) => EVENTS.map((event) => `tracing:ally:daemon:${call}:${event}`)));
const steps = (seen) => seen.map(([name]) => name.split(':').slice(-2).join(' '));

test('diagnostics_channel: ally:daemon:start, stop and restart trace the calls', async () => {
  const manager = world.manager();
  const seen = traces('start', 'stop', 'restart');
  const call = manager.startProcess(world.config());
  expect(steps(seen)).toEqual(['start start', 'start end']);
  await call;
  expect(steps(seen)).toEqual(['start start', 'start end', 'start asyncStart', 'start asyncEnd']);
  // One context for each call, without the configuration: it has arguments and variables.
  expect(new Set(seen.map(([, context]) => context)).size).toBe(1);
  expect(seen[0][1]).toEqual({ pluginName: 'plugin', result: undefined });

  seen.length = 0;
  await manager.restartProcess('plugin');
  expect(steps(seen)).toEqual(['restart start', 'restart end', 'restart asyncStart', 'restart asyncEnd']);
  expect(seen[0][1]).toEqual({ pluginName: 'plugin', result: undefined });

  seen.length = 0;
  await manager.stopProcess('plugin');
  await manager.stopAllProcesses();
  expect(steps(seen)).toEqual(Array(2).fill(['stop start', 'stop end', 'stop asyncStart', 'stop asyncEnd']).flat());
  expect(seen.map(([, { pluginName }]) => pluginName)).toEqual([...Array(4).fill('plugin'), ...Array(4)]);
});

test('diagnostics_channel: a failed call publishes its error, and rejects with it', async () => {
  const manager = world.manager();
  const seen = traces('start', 'restart');
  const error = await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 3])));
  expect(steps(seen)).toEqual(['start start', 'start end', 'start error', 'start asyncStart', 'start asyncEnd']);
  expect(seen.at(-1)[1]).toEqual({ pluginName: 'plugin', error });
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3 });
  seen.length = 0;
  const thrower = {
    get pluginName() {
      throw new Error('secret');
    },
  };
  expect(await failure(manager.startProcess(thrower))).toMatchObject({ code: 'ERR_INVALID_CONFIG' });
  expect(await failure(manager.restartProcess(7))).toMatchObject({ code: 'ERR_INVALID_CONFIG' });
  expect(Object.keys(seen[0][1])).toEqual(['error']);
  expect(steps(seen).slice(5)).toEqual(['restart start', 'restart end', 'restart error', 'restart asyncStart', 'restart asyncEnd']);
});

test('diagnostics_channel: ally:daemon:state and ally:daemon:exit have what the events have, of each manager', async () => {
  const [manager, other] = [world.manager(), world.manager()];
  const seen = subscribe('ally:daemon:state', 'ally:daemon:exit');
  const events = record(manager);
  await manager.startProcess(world.config());
  await manager.stopProcess('plugin');
  await other.startProcess(world.config('other'));
  await until(() => events.of('stateChange').length === 4 && seen.some(([, { pluginName }]) => pluginName === 'other'));
  const own = seen.filter(([, { pluginName }]) => pluginName === 'plugin');
  const type = { 'ally:daemon:state': 'stateChange', 'ally:daemon:exit': 'exit' };
  expect(own.map(([name, payload]) => ({ type: type[name], ...payload }))).toEqual(events.all);
  expect(own).toHaveLength(5);
});

test("diagnostics_channel: an event reaches its channel although a listener of the event throws, and the listener's error is the caller's", async () => {
  const manager = world.manager();
  const seen = subscribe('ally:daemon:state');
  const thrown = [];
  const emit = manager.emit.bind(manager);
  // An uncaught exception would end jest.
  manager.emit = (...event) => {
    try {
      return emit(...event);
    } catch (error) {
      thrown.push(error);
      return true;
    }
  };
  manager.on('stateChange', () => {
    throw new Error('mine');
  });
  await manager.startProcess(world.config());
  await until(() => seen.length === 2);
  expect(seen.map(([, { to }]) => to)).toEqual(['starting', 'running']);
  expect(thrown).toHaveLength(2);
});

const testWithStores = diagnostics.Channel.prototype.bindStore ? test : test.skip;

testWithStores('diagnostics_channel: a store bound to tracing:ally:daemon:start:start holds during the call', async () => {
  const manager = world.manager();
  const store = new AsyncLocalStorage();
  const channel = diagnostics.channel('tracing:ally:daemon:start:start');
  channel.bindStore(store, (context) => context.pluginName);
  world.finally(() => channel.unbindStore(store));
  const inside = [];
  const config = world.config();
  Object.defineProperty(config, 'args', {
    enumerable: true,
    value: new Proxy(config.args, {
      get: (target, key) => {
        inside.push(store.getStore());
        return Reflect.get(target, key);
      },
    }),
  });
  await manager.startProcess(config);
  expect(inside.length).toBeGreaterThan(0);
  expect(new Set(inside)).toEqual(new Set(['plugin']));
  expect(store.getStore()).toBeUndefined();
});

const testWithTracing = diagnostics.tracingChannel ? test : test.skip;

testWithTracing('diagnostics_channel: tracingChannel finds the channels', async () => {
  const manager = world.manager();
  const seen = [];
  const listeners = Object.fromEntries(EVENTS.map((event) => [event, ({ pluginName }) => seen.push([event, pluginName])]));
  const channel = diagnostics.tracingChannel('ally:daemon:start');
  channel.subscribe(listeners);
  world.finally(() => channel.unsubscribe(listeners));
  await manager.startProcess(world.config());
  expect(seen).toEqual(['start', 'end', 'asyncStart', 'asyncEnd'].map((event) => [event, 'plugin']));
});
