'use strict';

const fs = require('node:fs');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { member, reached, states } = require('./order');

const world = useWorld();

test('startGroup: each plugin is spawned after what it depends on runs, whatever the order of the array', async () => {
  const manager = world.manager();
  const running = reached(manager, 'running');
  const starts = await manager.startGroup([
    member(world, 'web', ['api']),
    member(world, 'api', ['db', 'cache']),
    member(world, 'db'),
    member(world, 'cache', ['db']),
  ]);
  expect(running).toEqual(['db', 'cache', 'api', 'web']);
  const of = Object.fromEntries(starts.map((start) => [start.pluginName, start]));
  for (const { queued, spawned, ready } of starts) expect([queued, spawned, ready]).toEqual([queued, spawned, ready].sort((a, b) => a - b));
  for (const [name, on] of [
    ['web', 'api'],
    ['api', 'db'],
    ['api', 'cache'],
    ['cache', 'db'],
  ]) {
    expect(of[name].spawned).toBeGreaterThan(of[on].ready);
  }
  expect(manager.getProcessInfo('api').config.dependsOn).toEqual(['db', 'cache']);
});

test('startGroup: what does not depend on each other starts at the same time', async () => {
  const manager = world.manager();
  // Each of the two waits until the other one runs.
  const other = (name, peer) => member(world, name, [], ['waits-for-a-file.py', world.path(`${peer}.up`), world.path(`${name}.up`)]);
  const starts = await manager.startGroup([other('a', 'b'), other('b', 'a')]);
  expect(starts.map(({ pluginName }) => pluginName).sort()).toEqual(['a', 'b']);
});

test('startGroup: nothing to start resolves without a thread or a process', async () => {
  expect(await world.manager().startGroup([])).toEqual([]);
  expect(fs.existsSync(world.envsDir)).toBe(false);
});

test('startGroup: if one fails, nothing further starts, what was started is stopped in reverse, and the rest is as before', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('before'));
  const [starting, stopped] = [reached(manager, 'starting'), reached(manager, 'stopped')];
  const error = await failure(
    manager.startGroup([
      member(world, 'db', ['before']),
      member(world, 'cache', ['db']),
      member(world, 'broken', ['cache'], ['exits.py', '--code', '3', 'no such table']),
      member(world, 'web', ['broken']),
    ]),
  );
  expect(error).toBeInstanceOf(AggregateError);
  expect(error.code).toBe('ERR_DEPENDENCY');
  expect(error.errors).toHaveLength(1);
  expect(error.errors[0]).toMatchObject({ code: 'ERR_STARTUP_EXIT', pluginName: 'broken', exitCode: 3 });
  expect(error.message).toMatch(/^Failed to start the group: 1 of 4 plugins failed: Failed to start background process 'broken'/);
  expect(stopped).toEqual(['cache', 'db']);
  expect(starting).not.toContain('web');
  expect(states(manager, 'before', 'db', 'cache', 'broken', 'web')).toEqual({
    before: 'running',
    db: 'stopped',
    cache: 'stopped',
    broken: 'error',
    web: undefined,
  });
});

test('startGroup: a plugin that was known before keeps its state and configuration if it is never started', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('web', ['serves.py'], { envVars: { VERSION: '1' } }));
  await manager.stopProcess('web');
  const web = member(world, 'web', ['broken'], ['serves.py'], { envVars: { VERSION: '2' } });
  await failure(manager.startGroup([web, member(world, 'broken', [], ['exits.py', '--code', '1'])]));
  expect(manager.getState('web')).toBe('stopped');
  expect(manager.getProcessInfo('web').config.envVars).toEqual({ VERSION: '1' });
});

test('startGroup: a failure of each of two plugins is named', async () => {
  const manager = world.manager();
  const gate = world.path('gate');
  const fails = (name) => member(world, name, [], ['exits-after-a-file.py', gate]);
  const start = failure(manager.startGroup([fails('a'), fails('b')]));
  await until(() => ['a', 'b'].every((name) => manager.getPid(name)), 10_000, 'both are spawned');
  fs.writeFileSync(gate, '');
  const error = await start;
  const codes = error.errors.map(({ code }) => code);
  // The second one may be stopped before it exits by itself.
  expect(codes.every((code) => code === 'ERR_STARTUP_EXIT')).toBe(true);
  expect(codes.length).toBeGreaterThanOrEqual(1);
});

test('startGroup: a stop of a plugin that waits for its dependency ends the whole call', async () => {
  const manager = world.manager();
  const start = failure(manager.startGroup([member(world, 'db', [], ['never-binds.py']), member(world, 'web', ['db'])]));
  await until(() => manager.getPid('db'), 10_000, 'db is spawned');
  expect(states(manager, 'web')).toEqual({ web: 'starting' });
  await manager.stopProcess('web');
  const error = await start;
  expect(error.errors).toEqual([expect.objectContaining({ code: 'ERR_STOPPED', pluginName: 'web' })]);
  expect(manager.getState('db')).toBe('stopped');
});

test.each([
  ['a stop', (manager) => manager.stopProcess('db'), 'ERR_STOPPED', 'stopped'],
  ['a crash for good', (manager) => process.kill(manager.getPid('db'), 'SIGKILL'), 'ERR_STARTUP_EXIT', 'error'],
])('startGroup: %s of a plugin that runs already, while another one starts, is a failure', async (_, end, code, state) => {
  const manager = world.manager();
  const go = world.path('go');
  const web = member(world, 'web', ['db'], ['waits-for-a-file.py', go, world.path('began')]);
  const start = failure(manager.startGroup([member(world, 'db', [], ['serves.py'], { restart: { maxAttempts: 0 } }), web]));
  await until(() => fs.existsSync(world.path('began')), 10_000, 'web starts');
  await end(manager);
  await until(() => manager.getState('db') === state);
  fs.writeFileSync(go, '');
  const error = await start;
  expect(error).toBeInstanceOf(AggregateError);
  expect(error.errors).toEqual([expect.objectContaining({ code, pluginName: 'db' })]);
  expect(states(manager, 'db', 'web')).toEqual({ db: state, web: 'stopped' });
});

test('startGroup: stopAllProcesses ends it with ERR_STOPPED', async () => {
  const manager = world.manager();
  const start = failure(manager.startGroup([member(world, 'db', [], ['never-binds.py']), member(world, 'web', ['db'])]));
  await until(() => manager.getPid('db'), 10_000, 'db is spawned');
  await manager.stopAllProcesses();
  const error = await start;
  expect(error.code).toBe('ERR_DEPENDENCY');
  expect(error.errors.every(({ code }) => code === 'ERR_STOPPED')).toBe(true);
  expect((await failure(manager.startGroup([member(world, 'db')]))).code).toBe('ERR_SHUTTING_DOWN');
});

test('startGroup: a plugin that runs already is a failure of its own, and nothing is started or stopped', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('db'));
  const pid = manager.getPid('db');
  const error = await failure(manager.startGroup([member(world, 'web'), member(world, 'db')]));
  expect(error.errors).toEqual([expect.objectContaining({ code: 'ERR_ALREADY_RUNNING', pluginName: 'db' })]);
  expect(manager.getPid('db')).toBe(pid);
  expect(manager.getState('web')).toBeUndefined();
});

describe('startGroup refuses before anything starts', () => {
  const refused = async (configs) => {
    const manager = world.manager();
    const error = await failure(manager.startGroup(configs));
    expect(error).toBeInstanceOf(Error);
    expect(manager.listProcesses()).toEqual([]);
    expect(fs.existsSync(world.envsDir)).toBe(false);
    return error;
  };

  test.each([
    [
      'an unknown name, with the nearest one',
      [
        ['api', ['databse']],
        ['database', []],
      ],
      "'api': it depends on 'databse', which is not known; did you mean 'database'?",
    ],
    ['an unknown name that looks like none', [['api', ['x']]], "'api': it depends on 'x', which is not known"],
    ['itself', [['api', ['api']]], "'api': it depends on itself: api → api"],
    [
      'a cycle',
      [
        ['a', ['b']],
        ['b', ['c']],
        ['c', ['a']],
      ],
      "'a': it depends on itself: a → b → c → a",
    ],
  ])('%s', async (_, members, text) => {
    const error = await refused(members.map(([name, dependsOn]) => member(world, name, dependsOn)));
    expect(error.code).toBe('ERR_DEPENDENCY');
    expect(error.errors).toEqual([expect.objectContaining({ code: 'ERR_DEPENDENCY', pluginName: members[0][0] })]);
    expect(error.message).toMatch(/^Failed to start the group: /);
    expect(error.message.endsWith(text)).toBe(true);
  });

  test('each invalid configuration, by index and field', async () => {
    const error = await refused([member(world, 'a'), member(world, 'b', [], ['serves.py'], { startupTimeout: -1 }), 7, member(world, 'a')]);
    expect(error.code).toBe('ERR_DEPENDENCY');
    expect(error.errors.map(({ code, pluginName, message }) => [code, pluginName, message])).toEqual([
      ['ERR_INVALID_CONFIG', 'b', expect.stringContaining('configs[1].startupTimeout must be')],
      ['ERR_INVALID_CONFIG', undefined, expect.stringContaining('configs[2] must be an object, got a number')],
      ['ERR_INVALID_CONFIG', 'a', expect.stringContaining('configs[3].pluginName is also the name of configs[0]')],
    ]);
  });

  test.each([
    ['no array', { length: 1 }, 'configs must be an array of configurations'],
    ['nothing', undefined, 'configs must be an array of configurations'],
    ['too many', new Array(10_001), 'configs must have at most 10000 items, got 10001'],
  ])('%s', async (_, configs, text) => {
    const error = await refused(configs);
    expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', message: expect.stringContaining(text) });
  });

  test('a configuration that throws', async () => {
    const hostile = { ...member(world, 'a') };
    Object.defineProperty(hostile, 'command', {
      enumerable: true,
      get() {
        throw new Error('secret');
      },
    });
    const error = await refused([member(world, 'b'), hostile]);
    expect(error.message).toContain("configs[1].command can't be read");
    expect(error.message).not.toContain('secret');
  });
});
