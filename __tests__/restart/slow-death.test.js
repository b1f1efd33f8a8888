'use strict';

const { record } = require('../helpers/events');
const { testWith } = require('../helpers/needs');
const { alive, stat } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { EXACT, crash, runningAgain } = require('./crash');

const world = useWorld();

/** A crash, after which the keeper's signals have no effect until `dies` is called. */
async function crashWithSlowDeath(logger) {
  const manager = world.manager({ logger });
  const marker = world.path('family');
  await manager.startProcess(
    world.config('plugin', ['leads-a-tree.py', marker, 'stubborn'], { restart: { ...EXACT, delay: 0 }, shutdownGracePeriod: 50 }),
  );
  const { stubborn } = await world.tree(marker);
  const keeper = stat(manager.getPid('plugin')).ppid;
  const fault = await inject(world, keeper, ['pidfd_send_signal:error=EPERM']);
  const daemon = await crash(manager);
  await until(() => manager.getProcessInfo('plugin').lastError?.includes('not gone'), 10_000, 'SIGKILL has no effect');
  return { manager, daemon, stubborn, dies: fault.stop };
}

const collectWarnings = (warnings) => {
  const ignore = () => {};
  return { debug: ignore, info: ignore, warn: (...entry) => warnings.push(JSON.stringify(entry)), error: ignore };
};

testWith('strace')('restart: goes on when a tree that outlived SIGKILL by 2 s is gone', async () => {
  const warnings = [];
  const { manager, daemon, stubborn, dies } = await crashWithSlowDeath(collectWarnings(warnings));
  const events = record(manager);
  const info = manager.getProcessInfo('plugin');
  expect(info).toMatchObject({ state: 'starting', lastError: `not gone 2 s after SIGKILL: pid ${stubborn.pid}`, restartAttempts: 1 });
  expect(info.nextRestartAt).toBeUndefined();
  expect(alive(stubborn)).toBe(true);
  const error = await failure(manager.startProcess(world.config()));
  expect(error).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
  expect(error.message).toContain('already starting');
  await until(() => warnings.some((entry) => entry.includes('not gone')));
  expect(warnings.filter((entry) => entry.includes('not gone'))).toEqual([expect.stringContaining(String(stubborn.pid))]);

  await dies();
  await runningAgain(manager, daemon);
  expect(alive(stubborn)).toBe(false);
  expect(manager.getProcessInfo('plugin').totalRestarts).toBe(1);
  expect(manager.getProcessInfo('plugin').lastError).toBeUndefined();
  await until(() => events.states('plugin').length === 1);
  expect(events.states('plugin')).toEqual(['running']);
});

testWith('strace')('ERR_STOP_FAILED: a stop of a restart that waits for its old tree', async () => {
  const { manager, stubborn, dies } = await crashWithSlowDeath();
  expect(manager.getState('plugin')).toBe('starting');
  const began = performance.now();
  expect(await failure(manager.stopProcess('plugin'))).toMatchObject({ code: 'ERR_STOP_FAILED' });
  expect(performance.now() - began).toBeGreaterThan(1_900);
  expect(manager.getState('plugin')).toBe('error');
  await dies();
  await until(() => !alive(stubborn));
});
