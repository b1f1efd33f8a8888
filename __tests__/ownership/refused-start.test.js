'use strict';

const { record } = require('../helpers/events');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

/** Two managers are two owners. */
async function refused(prepare) {
  const other = world.manager();
  const manager = world.manager();
  await prepare(manager);
  await other.startProcess(world.config('plugin'));
  const { all } = record(manager);
  const before = [manager.getState('plugin'), manager.getProcessInfo('plugin'), manager.listProcesses(), manager.getOutput('plugin')];
  const start = failure(manager.startProcess(world.config('plugin', ['serves.py'], { startupTimeout: 9_999 })));
  // Begins before or after the refusal, which another thread finds.
  const wait = failure(manager.whenRunning('plugin'));
  expect(await start).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: process.pid });
  const after = [manager.getState('plugin'), manager.getProcessInfo('plugin'), manager.listProcesses(), manager.getOutput('plugin')];
  expect(after).toEqual(before);
  expect(all).toEqual([]);

  /** Answers of later calls, and the events of a start once the name is free. */
  const later = async () => {
    const answers = { waited: await wait, now: await failure(manager.whenRunning('plugin')) };
    await other.stopProcess('plugin');
    expect(all).toEqual([]);
    await manager.startProcess(world.config('plugin'));
    expect(all.map(({ from, to }) => [from, to])).toEqual([
      [before[0], 'starting'],
      ['starting', 'running'],
    ]);
    return answers;
  };
  return { manager, before, later };
}

test('ERR_OWNED_ELSEWHERE: a plugin that was unknown before the start is unknown after it, and no event is emitted', async () => {
  const { manager, before, later } = await refused(async () => {});
  expect(before).toEqual([undefined, undefined, [], []]);
  expect(manager.getPid('plugin')).toBeUndefined();
  expect(manager.isRunning('plugin')).toBe(false);
  expect(manager.forgetProcess('plugin')).toBe(false);
  expect((await failure(manager.restartProcess('plugin'))).code).toBe('ERR_NOT_FOUND');
  await manager.stopProcess('plugin');
  expect(manager.getState('plugin')).toBeUndefined();
  const { waited, now } = await later();
  expect([waited.code, now.code]).toEqual(['ERR_NOT_FOUND', 'ERR_NOT_FOUND']);
});

test('ERR_OWNED_ELSEWHERE: a plugin that was STOPPED before the start is STOPPED after it, and no event is emitted', async () => {
  const { before, later } = await refused(async (manager) => {
    await manager.startProcess(world.config('plugin'));
    await manager.stopProcess('plugin');
  });
  expect(before[0]).toBe('stopped');
  const { waited, now } = await later();
  expect([waited.code, now.code]).toEqual(['ERR_STOPPED', 'ERR_STOPPED']);
});

test('ERR_OWNED_ELSEWHERE: a plugin that was in ERROR before the start keeps ERROR and lastError, and no event is emitted', async () => {
  const { before, later } = await refused(async (manager) => {
    expect((await failure(manager.startProcess(world.config('plugin', ['exits.py', '--code', 3, 'why'])))).code).toBe('ERR_STARTUP_EXIT');
  });
  expect(before[0]).toBe('error');
  expect(before[1].lastError).toContain('exited with code 3');
  const { waited, now } = await later();
  for (const error of [waited, now]) expect(error).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3, stderr: 'why' });
});

test('ERR_OWNED_ELSEWHERE: restartProcess uses the configuration from before the refused start', async () => {
  const other = world.manager();
  const manager = world.manager();
  await manager.startProcess(world.config('plugin'));
  await manager.stopProcess('plugin');
  await other.startProcess(world.config('plugin'));
  await failure(manager.startProcess(world.config('plugin', [], { command: '/no/such/program' })));
  expect((await failure(manager.restartProcess('plugin'))).code).toBe('ERR_OWNED_ELSEWHERE');
  expect(manager.getState('plugin')).toBe('stopped');
  await other.stopProcess('plugin');
  await manager.restartProcess('plugin');
  expect(manager.isRunning('plugin')).toBe(true);
});

test('ERR_OWNED_ELSEWHERE: the socket path of a refused start is free for another plugin', async () => {
  const other = world.manager();
  const manager = world.manager();
  await other.startProcess(world.config('plugin'));
  const socketPath = world.path('shared.sock');
  expect((await failure(manager.startProcess(world.config('plugin', ['serves.py'], { socketPath })))).code).toBe('ERR_OWNED_ELSEWHERE');
  await manager.startProcess(world.config('second', ['serves.py'], { socketPath }));
});

test("stateChange to 'starting': `at` is lastStateChange of the start", async () => {
  const manager = world.manager();
  const { of } = record(manager);
  const start = manager.startProcess(world.config('plugin'));
  const { lastStateChange } = manager.getProcessInfo('plugin');
  await start;
  await until(() => of('stateChange').length === 2);
  expect(of('stateChange')[0].at).toEqual(lastStateChange);
});
