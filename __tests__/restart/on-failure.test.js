'use strict';

const { record } = require('../helpers/events');
const { until } = require('../helpers/until');
const { expectCleared, useWorld } = require('../helpers/use-world');

const world = useWorld();

const config = (code) =>
  world.config('plugin', ['exits.py', '--listen', '--after', 500, '--code', code], {
    restart: { delay: 30_000, on: 'failure' },
  });

test('restart.on failure: exit code 0 leads to STOPPED', async () => {
  const manager = world.manager();
  const events = record(manager);
  await manager.startProcess(config(0));
  await until(() => manager.getState('plugin') === 'stopped');
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'exited' });
  expect(manager.getProcessInfo('plugin').nextRestartAt).toBeUndefined();
  await until(() => events.states('plugin').length === 3);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'stopped']);
  expect(events.of('stateChange').at(-1).reason).toBe('exited');
  expect(events.of('exit')).toEqual([expect.objectContaining({ code: 0, reason: 'exited' })]);
  expect(events.of('restart')).toEqual([]);
  await expectCleared(world, 'plugin');
});

test('restart.on failure: another exit code is restarted', async () => {
  const manager = world.manager();
  await manager.startProcess(config(1));
  await until(() => manager.getProcessInfo('plugin').nextRestartAt);
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 1, reason: 'crashed' });
});

test('restart.on: by default an exit with code 0 is restarted', async () => {
  const manager = world.manager();
  await manager.startProcess({ ...config(0), restart: { delay: 0 } });
  await until(() => manager.getProcessInfo('plugin').totalRestarts >= 1);
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ code: 0, reason: 'exited' });
});
