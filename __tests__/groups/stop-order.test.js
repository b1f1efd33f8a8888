'use strict';

const fs = require('node:fs');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { member, reached, states } = require('./order');
const { identify, signal } = require('../helpers/proc');

const world = useWorld();

/** A daemon that writes its name into a file when it has been asked to stop, 100 ms before it ends. */
const slow = (name, dependsOn, changes) => member(world, name, dependsOn, ['notes-its-stop.py', world.path('stops'), name], changes);
const notes = () => fs.readFileSync(world.path('stops'), 'utf8').trim().split('\n');

test.each([
  ['stopGroup', (manager) => manager.stopGroup('search')],
  ['stopAllProcesses', (manager) => manager.stopAllProcesses()],
])('%s: dependents are gone before what they depend on is asked to stop', async (_, stop) => {
  const manager = world.manager();
  await manager.startGroup([slow('db'), slow('api', ['db']), slow('web', ['api', 'db']), slow('mail', ['db'])]);
  const stopped = reached(manager, 'stopped');
  await stop(manager);
  expect(stopped.at(-1)).toBe('db');
  expect(stopped.indexOf('web')).toBeLessThan(stopped.indexOf('api'));
  const lines = notes();
  expect(lines.indexOf('web gone')).toBeLessThan(lines.indexOf('api asked'));
  expect(Math.max(lines.indexOf('api gone'), lines.indexOf('mail gone'))).toBeLessThan(lines.indexOf('db asked'));
});

test('stopGroup: only the plugins of the group are stopped', async () => {
  const manager = world.manager();
  await manager.startGroup([
    member(world, 'db'),
    member(world, 'web', ['db']),
    member(world, 'mail', [], ['serves.py'], { group: 'other' }),
    world.config('none'),
  ]);
  await manager.stopGroup('search');
  expect(states(manager, 'db', 'web', 'mail', 'none')).toEqual({ db: 'stopped', web: 'stopped', mail: 'running', none: 'running' });
  await manager.stopGroup('search');
  await manager.stopGroup('no such group');
});

test.each([[undefined], [''], [7]])('stopGroup(%j) is refused', async (group) => {
  const error = await failure(world.manager().stopGroup(group));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', message: expect.stringContaining('group must be a string that is not empty') });
});

test('group: an empty name and a number are refused', async () => {
  for (const group of ['', 7]) {
    const error = await failure(world.manager().startProcess({ ...world.config(), group }));
    expect(error.message).toMatch(/group must (not be empty|be a string)/);
  }
});

test('stopAllProcesses: a dependency that crashes while its dependents are stopped is not restarted', async () => {
  const manager = world.manager();
  await manager.startGroup([
    member(world, 'db', [], ['serves.py'], { restart: { delay: 0, jitter: 0 } }),
    slow('web', ['db'], { envVars: { STOP_SECONDS: '1' } }),
  ]);
  const starting = reached(manager, 'starting');
  const daemon = identify(manager.getPid('db'));
  const stop = manager.stopAllProcesses();
  await until(() => fs.existsSync(world.path('stops')), 10_000, 'web is asked to stop');
  signal(daemon, 'SIGKILL');
  await stop;
  expect(starting).toEqual([]);
  expect(states(manager, 'db', 'web')).toEqual({ db: 'stopped', web: 'stopped' });
});

test('stopAllProcesses: a start that waits for its dependency rejects with ERR_STOPPED', async () => {
  const manager = world.manager();
  const db = failure(manager.startProcess(world.config('db', ['never-binds.py'])));
  const web = failure(manager.startProcess(member(world, 'web', ['db'])));
  await until(() => manager.getPid('db'), 10_000, 'db is spawned');
  await manager.stopAllProcesses();
  expect((await web).code).toBe('ERR_STOPPED');
  expect((await db).code).toBe('ERR_STOPPED');
});
