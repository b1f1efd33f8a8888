'use strict';

const fs = require('node:fs');
const { alive, identify } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, host, hostGone } = useSessions(world);

const exclusive = (name, changes) => shared(name, ['serves.py'], { shared: false, ...changes });

test('startGroup: shared and exclusive plugins, each after what it depends on', async () => {
  const manager = world.manager();
  const states = [];
  manager.on('stateChange', ({ pluginName, to }) => to === 'running' && states.push(pluginName));
  const configs = [exclusive('app', { dependsOn: ['cache'] }), shared('cache', ['serves.py'], { dependsOn: ['store'] }), shared('store')];
  const starts = await manager.startGroup(configs);
  expect(states).toEqual(['store', 'cache', 'app']);
  expect(starts.map(({ pluginName }) => pluginName).sort()).toEqual(['app', 'cache', 'store']);
  expect(manager.getProcessInfo('cache').config).toMatchObject({ dependsOn: ['store'] });
  await manager.stopAllProcesses();
  await hostGone();
});

test('startGroup: the times of shared members show the critical path', async () => {
  const [first, second] = [world.manager(), world.manager()];
  const configs = [shared('cache', ['serves.py'], { dependsOn: ['store'] }), shared('store')];
  const times = async (manager) => Object.fromEntries((await manager.startGroup(configs)).map((start) => [start.pluginName, start]));
  for (const { cache, store } of [await times(first), await times(second)]) {
    for (const { queued, spawned, ready } of [cache, store]) {
      expect(queued).toBeLessThanOrEqual(spawned);
      expect(spawned).toBeLessThanOrEqual(ready);
    }
    expect(cache.queued).toBeGreaterThanOrEqual(store.ready);
  }
  const { cache, store } = await times(first);
  expect([cache, store].flatMap(({ queued, spawned, ready }) => [queued, spawned, ready])).toEqual([0, 0, 0, 0, 0, 0]);
});

test('startGroup: members that another session runs are attached to, and let go of if the group fails', async () => {
  const [first, second] = [world.manager(), world.manager()];
  await first.startProcess(shared('store'));
  const daemon = identify(first.getPid('store'));
  const error = await failure(second.startGroup([shared('store'), shared('cache', ['exits.py', '--code', '3'], { dependsOn: ['store'] })]));
  expect(error).toMatchObject({ code: 'ERR_DEPENDENCY' });
  expect(error.errors.map(({ code, pluginName }) => ({ code, pluginName }))).toEqual([{ code: 'ERR_STARTUP_EXIT', pluginName: 'cache' }]);
  await until(() => second.getState('store') === 'stopped');
  await until(() => first.getProcessInfo('store').sessions === 1);
  expect(alive(daemon)).toBe(true);
});

test('startGroup: a running shared member is no error and is not undone; two calls that share members wait for each other', async () => {
  const manager = world.manager();
  await manager.startProcess(shared('store'));
  const calls = [
    manager.startGroup([shared('store'), shared('cache', ['serves.py'], { dependsOn: ['store'] })]),
    manager.startGroup([shared('store'), shared('cache', ['serves.py'], { dependsOn: ['store'] })]),
  ];
  await Promise.all(calls);
  expect(manager.isRunning('cache')).toBe(true);
  await failure(manager.startGroup([shared('store'), shared('fails', ['exits.py', '--code', '3'])]));
  expect(manager.isRunning('store')).toBe(true);
});

test('startGroup: nothing starts or changes if an exclusive member is refused', async () => {
  const manager = world.manager();
  await manager.startProcess(exclusive('app'));
  const error = await failure(manager.startGroup([shared('store'), exclusive('app')]));
  expect(error).toMatchObject({ code: 'ERR_DEPENDENCY', message: expect.stringContaining('1 of 2 plugins') });
  expect(error.errors).toMatchObject([{ code: 'ERR_ALREADY_RUNNING', pluginName: 'app' }]);
  expect(manager.getState('store')).toBeUndefined();
  expect(host()).toBeUndefined();
});

test('startGroup: an exclusive member that was a shared plugin is an exclusive one from then on', async () => {
  const manager = world.manager();
  await manager.startProcess(shared('app'));
  await manager.stopProcess('app');
  await hostGone();
  await manager.startGroup([exclusive('app')]);
  expect(manager.isRunning('app')).toBe(true);
});

test('dependsOn: a shared plugin may name only shared ones', async () => {
  const manager = world.manager();
  await manager.startProcess(exclusive('store'));
  const refused = { code: 'ERR_DEPENDENCY', message: expect.stringContaining("'store', which is not shared") };
  expect(await failure(manager.startProcess(shared('cache', ['serves.py'], { dependsOn: ['store'] })))).toMatchObject(refused);
  const error = await failure(manager.startGroup([exclusive('other'), shared('cache', ['serves.py'], { dependsOn: ['other'] })]));
  expect(error.errors[0]).toMatchObject({ code: 'ERR_DEPENDENCY', pluginName: 'cache' });
  expect(manager.getState('other')).toBeUndefined();
  expect(await failure(manager.startProcess(shared('cache', ['serves.py'], { dependsOn: ['nobody'] })))).toMatchObject({
    code: 'ERR_DEPENDENCY',
  });
});

test('startProcess of an exclusive plugin that depends on a shared one waits for it', async () => {
  const manager = world.manager();
  const start = manager.startProcess(shared('store'));
  await manager.startProcess(exclusive('app', { dependsOn: ['store'] }));
  expect(manager.isRunning('store')).toBe(true);
  await start;
  await manager.stopProcess('store');
  await manager.stopProcess('app');
  expect(await failure(manager.startProcess(exclusive('app', { dependsOn: ['store'] })))).toMatchObject({ code: 'ERR_DEPENDENCY' });
});

test('stopGroup lets go of the shared members, dependents first', async () => {
  const [first, second] = [world.manager(), world.manager()];
  const configs = [
    shared('store', ['serves.py'], { group: 'all' }),
    shared('cache', ['serves.py'], { group: 'all', dependsOn: ['store'] }),
    exclusive('app', { group: 'all', dependsOn: ['cache'] }),
  ];
  await first.startGroup(configs);
  await second.startProcess(shared('store'));
  const order = [];
  first.on('stateChange', ({ pluginName, to }) => to === 'stopped' && order.push(pluginName));
  await first.stopGroup('all');
  expect(order).toEqual(['app', 'cache', 'store']);
  expect(second.isRunning('store')).toBe(true);
});

test.each([
  ['a shared', true],
  ['an exclusive', false],
])(
  'startGroup: if %s member fails, what was started is undone in the reverse order, exclusive members before shared ones',
  async (_, isShared) => {
    const manager = world.manager();
    const file = world.path('fails');
    const last = shared('last', ['exits-after-a-file.py', file], { shared: isShared });
    const order = [];
    manager.on('stateChange', ({ pluginName, to }) => ['stopping', 'stopped'].includes(to) && order.push(`${pluginName} ${to}`));
    const start = failure(manager.startGroup([shared('store'), exclusive('app', { dependsOn: ['store'] }), last]));
    await until(() => manager.isRunning('app'));
    fs.writeFileSync(file, '');
    const error = await start;
    expect(error.errors.map(({ code, pluginName }) => ({ code, pluginName }))).toEqual([{ code: 'ERR_STARTUP_EXIT', pluginName: 'last' }]);
    expect(order.filter((entry) => !entry.startsWith('last'))).toEqual(['app stopping', 'app stopped', 'store stopping', 'store stopped']);
  },
);

test('startGroup: an exclusive member that fails ends the starts of shared ones at once, and is the only cause', async () => {
  const manager = world.manager();
  const begun = performance.now();
  const error = await failure(
    manager.startGroup([
      shared('slow', ['never-listens.py'], { startupTimeout: 20_000 }),
      shared('fails', ['exits.py', '--code', '3'], { shared: false }),
    ]),
  );
  expect(error.errors).toMatchObject([{ code: 'ERR_STARTUP_EXIT', pluginName: 'fails' }]);
  expect(performance.now() - begun).toBeLessThan(10_000);
  expect(manager.getState('slow')).toBe('stopped');
});

test('startGroup: a shared member that fails is the only cause, and not the exclusive one that depends on it', async () => {
  const manager = world.manager();
  const configs = [exclusive('app', { dependsOn: ['store'] }), shared('store', ['exits.py', '--code', '3'])];
  const error = await failure(manager.startGroup(configs));
  expect(error.errors.map(({ code, pluginName }) => ({ code, pluginName }))).toEqual([{ code: 'ERR_STARTUP_EXIT', pluginName: 'store' }]);
  expect(error.message).toContain('1 of 2 plugins failed');
});

test('startGroup: a shared member that runs with another configuration is ERR_OWNED_ELSEWHERE with the fields, and nothing starts', async () => {
  const manager = world.manager();
  await manager.startProcess(shared('store'));
  const other = shared('store', ['serves.py'], { envVars: { SECRET: 'value' } });
  const error = await failure(manager.startGroup([other, shared('cache'), exclusive('app')]));
  expect(error.errors).toMatchObject([
    { code: 'ERR_OWNED_ELSEWHERE', pluginName: 'store', message: expect.stringContaining('fields that differ: envVars.SECRET') },
  ]);
  expect(error.errors[0].message).not.toContain('value');
  for (const name of ['cache', 'app']) expect(manager.getState(name)).toBeUndefined();
  expect(manager.isRunning('store')).toBe(true);
  // What is each session's own may differ.
  await manager.startGroup([shared('store', ['serves.py'], { startupTimeout: 9_000, shared: { linger: 5 } }), shared('cache')]);
  expect(manager.isRunning('cache')).toBe(true);
});

test('whenRunning: of a shared plugin whose start waits for what it depends on', async () => {
  const manager = world.manager();
  const marker = world.path('may-listen');
  const store = manager.startProcess(shared('store', ['waits-for-a-file.py', marker, world.path('began')]));
  const app = manager.startProcess(shared('app', ['serves.py'], { dependsOn: ['store'] }));
  const waits = [manager.whenRunning('app'), manager.whenRunning('app')];
  const aborted = failure(manager.whenRunning('app', { signal: AbortSignal.timeout(1) }));
  await until(() => fs.existsSync(world.path('began')));
  expect((await aborted).name).toBe('TimeoutError');
  fs.writeFileSync(marker, '');
  await Promise.all([store, app, ...waits]);
  expect(manager.isRunning('app')).toBe(true);
});
