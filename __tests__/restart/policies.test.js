'use strict';

const { record } = require('../helpers/events');
const { alive } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectCleared, useWorld } = require('../helpers/use-world');
const { EXACT, crash, runningAgain } = require('./crash');

const world = useWorld();
const PREVENTED = 'not restarted, because restart.preventExitCodes has';

const exiting = (code, restart) =>
  world.config('plugin', ['exits.py', '--listen', '--after', 300, '--code', code, 'wrong setting'], { restart });

test('restart.resetAfter: restarts that became ready use up the attempts', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(
    world.config('plugin', ['serves.py'], { restart: { ...EXACT, delay: 10, maxAttempts: 2, resetAfter: 60_000 } }),
  );
  for (const attempt of [1, 2]) {
    await runningAgain(manager, await crash(manager));
    expect(manager.getProcessInfo('plugin').restartAttempts).toBe(attempt);
  }
  await crash(manager);
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastError).toBe('Maximum restart attempts exceeded (2): the process was killed by SIGKILL');
  await until(() => events.states('plugin').at(-1) === 'error');
  expect(events.of('restart').map(({ attempt, delay }) => [attempt, delay])).toEqual([
    [1, 10],
    [2, 20],
  ]);
  await expectCleared(world, 'plugin');
});

test('restart.resetAfter: the attempts are 0 after that time in RUNNING, and not before', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { ...EXACT, delay: 0, maxAttempts: 1, resetAfter: 400 } }));
  for (let round = 1; round <= 2; round++) {
    await runningAgain(manager, await crash(manager));
    // Count and uptime of one snapshot.
    const info = await until(() => [manager.getProcessInfo('plugin')].find(({ restartAttempts }) => restartAttempts === 0));
    expect(info.uptime).toBeGreaterThanOrEqual(400);
    expect(info).toMatchObject({ state: 'running', totalRestarts: round });
  }
});

test('restart.preventExitCodes: an exit with a listed code leads to ERROR at once', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(exiting(78, { delay: 0, preventExitCodes: [2, 78] }));
  const error = await failure(until(() => manager.getState('plugin') === 'error').then(() => manager.whenRunning('plugin')));
  expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 78, stderr: 'wrong setting' });
  expect(error.message).toContain(`${PREVENTED} 78: the process exited with code 78`);
  const info = manager.getProcessInfo('plugin');
  expect(info).toMatchObject({ restartAttempts: 0, totalRestarts: 0, lastExit: { code: 78, reason: 'crashed' } });
  expect(info.lastError).toBe(`${PREVENTED} 78: the process exited with code 78: wrong setting`);
  await until(() => events.states('plugin').length === 3);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'error']);
  expect(events.of('restart')).toEqual([]);
  await expectCleared(world, 'plugin');
});

test('restart.preventExitCodes: another code is restarted, and a restart that exits with a listed code is the last one', async () => {
  const manager = world.manager();
  const events = record(manager);
  const counter = world.path('starts');
  await manager.startProcess(
    world.config('plugin', ['differs-by-start.py', counter, 'good', 'refuse', 'good'], {
      restart: { ...EXACT, delay: 0, preventExitCodes: [3] },
    }),
  );
  await crash(manager);
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastError).toContain(`${PREVENTED} 3: the process exited with code 3 before it was ready`);
  expect(manager.getProcessInfo('plugin').totalRestarts).toBe(1);
  await until(() => events.states('plugin').at(-1) === 'error');
  expect(events.of('restart')).toHaveLength(1);
});

test('restart.preventExitCodes: the rest of the tree is stopped', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await manager.startProcess(
    world.config('plugin', ['leads-a-tree.py', marker, 'willing'], { restart: { preventExitCodes: [0] }, shutdownGracePeriod: 2_000 }),
  );
  const { willing } = await world.tree(marker);
  // The leader exits with 0 after SIGTERM.
  process.kill(manager.getPid('plugin'), 'SIGTERM');
  await until(() => manager.getState('plugin') === 'error');
  expect(alive(willing)).toBe(false);
  await expectCleared(world, 'plugin');
});

test("restart.preventExitCodes: 0 counts more than restart.on 'failure'", async () => {
  const manager = world.manager();
  await manager.startProcess(exiting(0, { on: 'failure', preventExitCodes: [0] }));
  await until(() => manager.getState('plugin') !== 'running');
  await until(() => manager.getState('plugin') === 'error');
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'exited' });
});

test('ERR_INVALID_CONFIG: restart.preventExitCodes names the wrong item', async () => {
  const error = await failure(world.manager().startProcess(exiting(0, { preventExitCodes: [1, 256] })));
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(error.message).toContain('restart.preventExitCodes[1] must be a whole number from 0 to 255, got 256');
});
