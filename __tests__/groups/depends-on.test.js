'use strict';

const fs = require('node:fs');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { EXACT, crash } = require('../restart/crash');
const { member, states } = require('./order');

const world = useWorld();

test('dependsOn: startProcess waits for a dependency that is starting, and starts nothing else', async () => {
  const manager = world.manager();
  const gate = world.path('gate');
  const db = watch(manager.startProcess(world.config('db', ['listens-late.py', gate])));
  const web = watch(manager.startProcess(member(world, 'web', ['db'])));
  await until(() => manager.getPid('db'), 10_000, 'db is spawned');
  expect([manager.getState('web'), manager.getPid('web')]).toEqual(['starting', undefined]);
  fs.writeFileSync(gate, '');
  await web.promise;
  expect(db.settled).toBe(true);
  expect(states(manager, 'db', 'web')).toEqual({ db: 'running', web: 'running' });
});

test('dependsOn: the startup timeout does not count the wait', async () => {
  const manager = world.manager();
  const db = watch(manager.startProcess(world.config('db', ['never-binds.py'])));
  const web = watch(manager.startProcess(member(world, 'web', ['db'], ['serves.py'], { startupTimeout: 200 })));
  await until(() => manager.getPid('db'), 10_000, 'db is spawned');
  const since = Date.now();
  await until(() => Date.now() - since > 400, 10_000, 'the startup timeout of web is over');
  expect(web.settled).toBe(false);
  await manager.stopProcess('db');
  expect(await failure(web.promise)).toMatchObject({ code: 'ERR_DEPENDENCY', pluginName: 'web' });
  await failure(db.promise);
});

test.each([
  ['is unknown', async () => {}, 'which is not known', undefined],
  [
    'is stopped',
    async (manager) => {
      await manager.startProcess(world.config('db'));
      await manager.stopProcess('db');
    },
    'which does not run: stopped',
    'ERR_STOPPED',
  ],
  [
    'has failed',
    (manager) => failure(manager.startProcess(world.config('db', ['exits.py', '--code', '4']))),
    'which does not run: the process exited with code 4',
    'ERR_STARTUP_EXIT',
  ],
])('dependsOn: ERR_DEPENDENCY if one %s, and nothing has changed', async (_, prepare, text, cause) => {
  const manager = world.manager();
  await prepare(manager);
  const changes = [];
  manager.on('stateChange', (change) => changes.push(change));
  const error = await failure(manager.startProcess(member(world, 'web', ['db'])));
  expect(error).toMatchObject({ code: 'ERR_DEPENDENCY', pluginName: 'web', message: expect.stringContaining(text) });
  expect(error.exitCode).toBeUndefined();
  expect(error.cause?.code).toBe(cause);
  if (cause) expect(error.cause.pluginName).toBe('db');
  expect(manager.getProcessInfo('web')).toBeUndefined();
  expect(changes).toEqual([]);
});

test('dependsOn: a cycle through a running plugin is spelled out', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('db'));
  await manager.startProcess(member(world, 'api', ['db']));
  await manager.stopProcess('db');
  const error = await failure(manager.startProcess(member(world, 'db', ['api'])));
  expect(error.message).toBe("Failed to start background process 'db': it depends on itself: db → api → db");
});

test('dependsOn: an abort and a stop end the wait', async () => {
  const manager = world.manager();
  const db = failure(manager.startProcess(world.config('db', ['never-binds.py'])));
  const controller = new AbortController();
  const aborted = failure(manager.startProcess(member(world, 'web', ['db']), { signal: controller.signal }));
  controller.abort(new Error('enough'));
  expect((await aborted).message).toBe('enough');
  const stopped = failure(manager.startProcess(member(world, 'web', ['db'])));
  await manager.stopProcess('web');
  expect((await stopped).code).toBe('ERR_STOPPED');
  expect(manager.getState('db')).toBe('starting');
  await manager.stopProcess('db');
  await db;
});

test('dependsOn: a dependency that crashes and comes back does not restart its dependents', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: EXACT }));
  await manager.startProcess(member(world, 'web', ['plugin']));
  const pid = manager.getPid('web');
  await crash(manager);
  await manager.whenRunning('plugin');
  expect(manager.getPid('web')).toBe(pid);
});

test('dependsOn: restartProcess checks it, and a restart by the policy does not', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('db'));
  await manager.startProcess(member(world, 'plugin', ['db'], ['serves.py'], { restart: EXACT }));
  await manager.stopProcess('db');
  await crash(manager);
  await manager.whenRunning('plugin');
  const error = await failure(manager.restartProcess('plugin'));
  expect(error.code).toBe('ERR_DEPENDENCY');
  expect(manager.getState('plugin')).toBe('error');
});

test.each([
  ['a name', 'db', 'dependsOn must be an array of plugin names, got a string'],
  ['a number in it', ['db', 7], 'dependsOn[1] must be a string, got a number'],
  ['an empty name', [''], 'dependsOn[0] must be a name that is not empty and has no NUL'],
  ['a path', ['a/b'], 'dependsOn[0] must be a plain folder name'],
])('dependsOn: %s is refused', async (_, dependsOn, text) => {
  const error = await failure(world.manager().startProcess({ ...world.config(), dependsOn }));
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', message: expect.stringContaining(text) });
});

test('dependsOn: stopProcess stops just the one, and warns of those that depend on it', async () => {
  const warnings = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (message) => warnings.push(message) };
  const manager = world.manager({ logger });
  await manager.startProcess(world.config('db'));
  await manager.startProcess(member(world, 'web', ['db']));
  await manager.startProcess(member(world, 'api', ['db']));
  await manager.stopProcess('db');
  expect(states(manager, 'db', 'web', 'api')).toEqual({ db: 'stopped', web: 'running', api: 'running' });
  expect(warnings).toEqual([expect.stringMatching(/db.* is stopped while plugins that depend on it run: api, web/)]);
});
