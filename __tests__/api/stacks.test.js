'use strict';

// The stack of an error leads to the code that made the call, also if the failure came later.

const diagnostics = require('node:diagnostics_channel');
const { failure } = require('../helpers/promises');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const missing = () => world.config('plugin', [], { command: '/nonexistent/program' });
const start = (manager) => manager.startProcess(missing());

const CALLS = {
  startProcess: start,
  'startProcess, refused': (manager) => manager.startProcess({}),
  'startProcess with a signal': (manager) => manager.startProcess(missing(), { signal: new AbortController().signal }),
  startGroup: (manager) => manager.startGroup([missing()]),
  restartProcess: (manager) => manager.restartProcess('nobody'),
  upgradeProcess: (manager) => manager.upgradeProcess('nobody', {}),
  whenRunning: (manager) => manager.whenRunning('nobody'),
};

async function stackOf(call) {
  async function theCaller() {
    await call(world.manager());
  }
  return (await failure(theCaller())).stack;
}
const expectCaller = (stack) =>
  expect(stack).toMatch(/^Error: .*\n(?: {4}at .*\n)+? {4}at (?:async )?theCaller \(.*stacks\.test\.js:\d+:\d+\)/);

test.each(Object.keys(CALLS).filter((name) => name !== 'startGroup'))('stack: %s leads to its caller', async (name) => {
  expectCaller(await stackOf(CALLS[name]));
});

test('stack: startGroup leads to its caller', async () => {
  expect(await stackOf(CALLS.startGroup)).toMatch(/\n {4}at (?:async )?theCaller \(.*stacks\.test\.js/);
});

test('stack: a call that is traced leads to its caller', async () => {
  const subscriber = () => {};
  diagnostics.subscribe('tracing:ally:daemon:start:error', subscriber);
  try {
    expectCaller(await stackOf(start));
  } finally {
    diagnostics.unsubscribe('tracing:ally:daemon:start:error', subscriber);
  }
});
