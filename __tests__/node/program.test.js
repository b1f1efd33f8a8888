'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { execFile } = require('node:child_process');
const { setImmediate: realSetImmediate } = require('node:timers');
const { ROOT, testOnLinux } = require('../helpers/needs');
const { alive, identify } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useProgram } = require('./program');

const world = useWorld();
const { expectAsBefore, whole, willing, live, named, EAGER } = useProgram(world);

testOnLinux(
  'workers: a hundred terminated amid starts, restarts and stops leave nothing',
  async () => {
    const place = (index) => [willing(`runs-${index}`), world.config(`starts-${index}`, ['never-binds.py'])];
    const owner = world.owner('terminates-workers.js', { own: willing('own'), configs: [0, 1, 2].map(place), times: 100 });
    const { report } = await whole(owner);
    expect(report.failures).toEqual([]);
    expectAsBefore(report.after, report.before);
    expect(report.still).toBe(true);
    // Each of five moments has its share of the workers (the first six are the warm-up).
    expect(Object.values(report.moments).reduce((sum, count) => sum + count)).toBeGreaterThanOrEqual(106);
    for (const moment of ['called', 'starting', 'running', 'restarting', 'stopping']) expect(report.moments[moment]).toBeGreaterThan(18);
    // Most workers had two daemons; the owner itself has seen that they are gone.
    expect(report.daemons).toBeGreaterThan(100);
    expect(report.end.zombies).toBe(0);
  },
  60_000,
);

test("workers: a manager in one uses its process.env and its realm's errors", async () => {
  const file = world.path('report');
  const owner = world.owner('starts-in-a-worker.js', {
    configs: [world.config('plugin', ['reports-its-process.py', file])],
    workerEnv: { OF_THE_WORKER: 'yes' },
    end: 'stop',
  });
  expect(await owner.says('invalid')).toMatchObject({ isError: true, code: 'ERR_INVALID_CONFIG' });
  const { plugin } = await owner.says('ready');
  expect(await owner.says('stopped')).toBe(true);
  const report = JSON.parse(fs.readFileSync(file, 'utf8'));
  expect(report.pid).toBe(plugin);
  expect(report.environment).toMatchObject({ OF_THE_WORKER: 'yes', ALLY_PLUGIN_NAME: 'plugin' });
  expect(await owner.says('workerExit')).toBe(0);
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  expect(alive(plugin)).toBe(false);
});

testOnLinux('managers: five in one process are five owners', async () => {
  const own = [0, 1, 2, 3, 4].flatMap((manager) => named(`of-${manager}`, 3));
  const said = await live('managers', { configs: [willing('contested'), ...own] });
  const lost = expect.objectContaining({ isError: true, code: 'ERR_OWNED_ELSEWHERE', pluginName: 'contested', pid: said.self });
  // One of the five managers has the plugin.
  expect(said.wanted.sort((one, other) => (other === 'has it') - (one === 'has it'))).toEqual(['has it', lost, lost, lost, lost]);
  expect(said.guardians).toBe(5);
  expect(new Set(said.first.flat()).size).toBe(15);
  // The crash of one daemon reaches its own manager only.
  expect(said.first[0][0]).toBe(said.killed);
  expect(said.second[0][0]).not.toBe(said.killed);
  said.second[0][0] = said.killed;
  expect(said.second).toEqual(said.first);
  expect(said.last).toEqual(said.first[4]);
  expect(said.running).toEqual([0, 0, 0, 0, 3]);
  said.heard.forEach((exits, index) => {
    const names = exits.map(([name]) => name).filter((name) => name !== 'contested');
    expect(names.filter((name) => !name.startsWith(`of-${index}-`))).toEqual([]);
    expect(names).toHaveLength(index === 0 ? 4 : 3);
  });
  expectAsBefore(said.after, said.before);
});

test("child_process: the program's own children and the daemons get their own exits", async () => {
  const { report } = await live('beside', { configs: ['crashes', 'stays', 'stops'].map((name) => willing(name)), times: 120, crashes: 20 });
  expect(report.wrong).toEqual([]);
  expect(report.ran).toBe(4 * 120 + 1);
  const exits = (pids, signal, reason) => pids.map((pid) => ({ pid, ...signal, reason }));
  expect(report.killed).toHaveLength(20);
  expect(new Set(report.killed).size).toBe(20);
  expect(report.exits.crashes.slice(0, 20)).toEqual(exits(report.killed, { signal: 'SIGKILL' }, 'crashed'));
  expect(report.exits.stops.slice(0, 20)).toEqual(exits(report.stops, {}, 'stopped'));
  expect(report.exits.stays).toEqual(exits([report.undisturbed.pid], {}, 'stopped'));
  expect(report.undisturbed).toMatchObject({ state: 'running', totalRestarts: 0 });
  expect(report.after.zombies).toBe(0);
});

test('fake timers: a manager works under jest.useFakeTimers', async () => {
  const file = world.path('lines');
  fs.writeFileSync(file, Array.from({ length: 3_000 }, (_, index) => `line ${index}\n`).join(''));
  const manager = world.manager();
  const seen = [];
  const all = new Promise((resolve) => manager.on('output', ({ line }) => seen.push(line) === 3_000 && resolve()));
  // From here on the timers and clocks of this realm stand still.
  jest.useFakeTimers();
  world.finally(() => jest.useRealTimers());
  await manager.startProcess(world.config('plugin', ['prints-files.py', 1, file]));
  const { uptime } = manager.getProcessInfo('plugin');
  await all;
  for (let turn = 0; turn < 1_000 && manager.getProcessInfo('plugin').uptime <= uptime; turn++) await new Promise(realSetImmediate);
  expect(manager.getProcessInfo('plugin').uptime).toBeGreaterThan(uptime);
  await manager.stopProcess('plugin');
  expect(seen).toEqual(Array.from({ length: 3_000 }, (_, index) => `line ${index}`));
  expect(manager.getState('plugin')).toBe('stopped');
});

test('throwing listeners: each throw is one uncaughtException, and every state and event comes as without', async () => {
  const beats = world.config('plugin', ['prints-and-counts.py', world.path('beats')], {
    ...EAGER,
    healthcheck: { interval: 20, timeout: 5_000, retries: 3 },
  });
  const { outcomes, end } = await live('throws', { configs: [beats, world.config('refused', [], { command: '/no/such' })], times: 5 });
  expect(outcomes).toEqual({
    again: expect.objectContaining({ code: 'ERR_ALREADY_RUNNING', isError: true }),
    refused: expect.objectContaining({ code: 'ERR_SPAWN', isError: true }),
    restarts: 5,
    state: 'stopped',
  });
  expect(end.caught).toEqual(end.called);
  for (const what of ['exit', 'restart', 'health', 'output', 'debug', 'info', 'warn', 'error']) expect(end.called[what]).toBeGreaterThan(0);
  expect(end.states).toEqual({
    plugin: [...Array(6).fill(['starting', 'running']).flat(), 'stopping', 'stopped'],
    refused: ['starting', 'error', 'stopped'],
  });
  expect(end.called).toMatchObject({ exit: 6, restart: 5, stateChange: 17, async: 17 });
});

test('throwing listeners: without a handler the program ends with code 1, and its daemons with it', async () => {
  const owner = world.owner('acts-as-a-program.js', { scenario: 'throwsOnce', configs: named('plugin', 2) });
  const daemons = (await owner.says('ready')).map(identify);
  expect(await owner.exited).toEqual({ code: 1, signal: null });
  await owner.closed;
  expect(owner.errors).toContain('Error: thrown by a listener');
  await until(() => !daemons.some(alive));
  // The World looks for daemons that were started meanwhile.
});

testOnLinux('process.env: rewritten in every turn, each start has one consistent copy and a restart that of its start', async () => {
  const { outcome, rewrites } = await live('environment', { configs: named('plugin', 3), times: 40 });
  expect(outcome).toEqual({ same: 80, other: 0, whole: 40, torn: [], moments: expect.any(Number) });
  // Two starts may happen in one turn of the event loop, but most see an environment of their own.
  expect(outcome.moments).toBeGreaterThan(20);
  expect(rewrites).toBeGreaterThan(2_000);
});

test('event loop: no active resource is left after stopAllProcesses', async () => {
  const { before, made, after } = await live('handles', { configs: named('plugin', 3) });
  expect({ made, after }).toEqual({ made: before, after: before });
});

test('event loop: jest --detectOpenHandles finds nothing after stopAllProcesses', async () => {
  const config = willing('plugin');
  fs.writeFileSync(
    world.path('one.test.js'),
    `
      const { BackgroundProcessManager } = require(${JSON.stringify(ROOT)});
      test('starts and stops', async () => {
        const manager = new BackgroundProcessManager({ envsDir: ${JSON.stringify(world.envsDir)} });
        process.once('exit', () => manager.stopAllProcesses());
        await manager.startProcess(${JSON.stringify(config)});
        await manager.stopAllProcesses();
      });
    `,
  );
  const flags = ['--detectOpenHandles', '--runInBand', '--rootDir', world.dir, '--config', '{"transform":{}}'];
  const jest = path.join(ROOT, 'node_modules', 'jest', 'bin', 'jest.js');
  const said = await new Promise((resolve) => {
    execFile(process.execPath, [jest, ...flags], { cwd: world.dir }, (error, stdout, stderr) =>
      resolve(`${error?.message ?? ''}${stdout}${stderr}`),
    );
  });
  expect(said).toContain('1 passed');
  expect(said).not.toMatch(/open handle|did not exit/i);
});
