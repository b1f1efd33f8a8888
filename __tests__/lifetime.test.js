'use strict';

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const { useWorld } = require('./helpers/world');
const { alive, onLinux, testOnLinux } = require('./helpers/processes');
const { until } = require('./helpers/until');

const world = useWorld();

/** An owner whose loop has nothing to do but what the scenario does. It must end by itself. */
async function live(scenario, fixture = ['willing.py'], changes = {}) {
  const owner = world.owner('lifetime.js', { scenario, configs: [world.config('plugin', fixture, changes)] });
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  await owner.closed;
  expect(owner.errors).toBe('');
  expect(owner.lines.find((line) => 'failed' in line)).toBeUndefined();
  return Object.assign({}, ...owner.lines);
}

test.each([
  ['stops', 'stopped'],
  ['stopsAll', 'stopped'],
])('the process ends by itself after the last daemon: %s', async (scenario, ended) => {
  expect(await live(scenario)).toMatchObject({ ended });
});

test('a start that fails keeps nothing', async () => {
  const said = await live('fails', ['exits.py', '--code', 3]);
  expect(said).toMatchObject({ refused: { code: 'ERR_STARTUP_EXIT' }, ended: 'error' });
  expect(await live('fails', [], { command: '/no/such' })).toMatchObject({ refused: { code: 'ERR_SPAWN' }, ended: 'error' });
});

test('a manager that has given up keeps nothing', async () => {
  expect(await live('gives_up', ['willing.py'], { restart: { maxAttempts: 0 } })).toMatchObject({ ended: 'error' });
});

test('a running daemon keeps the process alive', async () => {
  expect(await live('keeps')).toMatchObject({ alive: 'running', ended: 'stopped' });
});

test('a pending restart keeps the process alive', async () => {
  const said = await live('restartPending', ['willing.py'], { restart: { delay: 400, jitter: 0 } });
  expect(said).toMatchObject({ pending: null, restarted: expect.any(Number), ended: 'stopped' });
});

test.each(['unref', 'unrefFirst'])('%s lets the process end, and the daemon with it', async (scenario) => {
  expect(await live(scenario)).toMatchObject({ ended: 'running', ...(scenario === 'unref' && { self: true }) });
  // The world fails this test if the daemon is left.
});

test('ref takes that back', async () => {
  expect(await live('refAgain')).toMatchObject({ self: true, alive: 'running', ended: 'stopped' });
});

test("the program's own children and ours do not disturb one another", async () => {
  expect(await live('beside', ['willing.py'], { restart: { delay: 0 } })).toMatchObject({ codes: Array(8).fill(7), restarts: 1 });
});

testOnLinux('no thread and no child before the first start, and no child after the last daemon', async () => {
  const owner = world.owner('idle.js', { configs: ['a', 'b', 'c'].map((name) => world.config(name)) });
  expect(await owner.says('idle')).toEqual({ threads: 0, children: [] });
  expect((await owner.says('running')).children).toHaveLength(1);
  const after = await owner.says('after');
  expect(after.children).toEqual([]);
  expect(after.took).toBeLessThan(1_500);
  expect(await owner.says('again')).toBe(true);
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  expect(owner.errors).toBe('');
});

testOnLinux("the supervisor's thread handles no signal of the program's", async () => {
  await world.manager().startProcess(world.config());
  const read = (tid, name) => fs.readFileSync(`/proc/self/task/${tid}/${name}`, 'utf8');
  const threads = fs.readdirSync('/proc/self/task').filter((tid) => read(tid, 'comm') === 'ally-bpm\n');
  expect(threads).toHaveLength(1);
  const blocked = BigInt(`0x${/^SigBlk:\s*(\w+)$/m.exec(read(threads[0], 'status'))[1]}`);
  const open = Array.from({ length: 64 }, (_, index) => index + 1).filter((number) => !((blocked >> BigInt(number - 1)) & 1n));
  // SIGKILL and SIGSTOP can't be blocked; two more are the C library's own.
  expect(open.filter((number) => number !== 32 && number !== 33)).toEqual([9, 19]);
});

describe('as the first process of a container', () => {
  const canUnshare =
    onLinux &&
    process.getuid() === 0 &&
    (() => {
      try {
        execFileSync('unshare', ['-pf', '--mount-proc', 'true'], { stdio: 'ignore' });
        return true;
      } catch {
        return false;
      }
    })();

  (canUnshare ? test : test.skip)('a whole tree stops, and the stop does not wait for zombies', async () => {
    const marker = world.path('family');
    const began = performance.now();
    const owner = world.owner(
      'starts.js',
      {
        configs: [world.config('plugin', ['family.py', marker, 'stubborn', 'fled'], { shutdownGracePeriod: 300 })],
        end: 'stop',
      },
      { before: ['unshare', '-pf', '--mount-proc'] },
    );
    await owner.says('ready');
    expect(await owner.says('stopped')).toBe(true);
    expect(await owner.exited).toEqual({ code: 0, signal: null });
    expect(performance.now() - began).toBeLessThan(10_000);
  });
});

test('an owner that has ended is gone, and so is everything that it had', async () => {
  const owner = world.owner('starts.js', { configs: [world.config('plugin')], end: 'stop' });
  const { plugin } = await owner.says('ready');
  expect(await owner.says('stopped')).toBe(true);
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  await until(() => !alive(plugin));
});
