'use strict';

const { alive } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

/** An owner whose event loop has nothing to do but the scenario. It must end by itself. */
async function live(scenario, fixture = ['serves.py'], changes = {}) {
  const configs = [world.config('plugin', fixture, changes)];
  const owner = world.owner('ends-by-itself.js', { scenario, configs, marker: world.path('flooded') });
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  await owner.closed;
  expect(owner.errors).toBe('');
  expect(owner.lines.find((line) => 'failed' in line)).toBeUndefined();
  return Object.assign({}, ...owner.lines);
}

test.each([
  ['stops', 'stopped'],
  ['stopsAll', 'stopped'],
])('event loop: the process ends by itself after the last daemon: %s', async (scenario, ended) => {
  expect(await live(scenario)).toMatchObject({ ended });
});

test('event loop: a failed start does not keep it alive', async () => {
  const said = await live('fails', ['exits.py', '--code', 3]);
  expect(said).toMatchObject({ refused: { code: 'ERR_STARTUP_EXIT' }, ended: 'error' });
  expect(await live('fails', [], { command: '/no/such' })).toMatchObject({ refused: { code: 'ERR_SPAWN' }, ended: 'error' });
});

test('event loop: a plugin in ERROR does not keep it alive', async () => {
  expect(await live('givesUp', ['serves.py'], { restart: { maxAttempts: 0 } })).toMatchObject({ ended: 'error' });
});

test('event loop: a running daemon keeps it alive', async () => {
  expect(await live('keeps')).toMatchObject({ alive: 'running', ended: 'stopped' });
});

test('event loop: a pending restart keeps it alive', async () => {
  const said = await live('restartPending', ['serves.py'], { restart: { delay: 400, jitter: 0 } });
  expect(said).toMatchObject({ pending: null, restarted: expect.any(Number), ended: 'stopped' });
});

test.each(['unref', 'unrefFirst', 'unrefWithListeners'])('unref: %s lets the process end, and its daemon with it', async (scenario) => {
  expect(await live(scenario)).toMatchObject({ ended: 'running', ...(scenario !== 'unrefFirst' && { self: true }) });
  // The World fails this test if the daemon is left.
});

test("unref: a flood with an 'output' listener lets the process end, and its daemon with it", async () => {
  expect(await live('unrefInFlood', ['floods.py', 1_000_000, world.path('flooded')])).toMatchObject({ ended: 'running', self: true });
});

test("unref: waiting lines reach an 'output' listener while another timer keeps the process alive", async () => {
  const said = await live('unrefAndStay', ['floods.py', 1, world.path('flooded')]);
  expect(said.waited).toBe(0);
  // The mailbox holds 4,000 lines, and a turn of the event loop takes 256 of them.
  expect(said.delivered).toBeGreaterThan(1_000);
});

test('logs: what is kept is read to the end, and follow does not keep the event loop alive', async () => {
  const said = await live('readsLogs', ['numbers-its-lines.py', 1]);
  expect(said).toEqual({ lines: ['0'], ended: 'stopped' });
});

test('unref: a follower of logs lets the process end, and its daemon with it', async () => {
  expect(await live('followsUnref', ['prints-and-counts.py', world.path('beats')])).toMatchObject({ ended: 'running' });
});

test('ref: undoes unref', async () => {
  expect(await live('refAgain')).toMatchObject({ self: true, alive: 'running', ended: 'stopped' });
});

test('owner: its daemon is gone when the process has ended', async () => {
  const owner = world.owner('starts-and-ends.js', { configs: [world.config('plugin')], end: 'stop' });
  const { plugin } = await owner.says('ready');
  expect(await owner.says('stopped')).toBe(true);
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  await until(() => !alive(plugin));
});
