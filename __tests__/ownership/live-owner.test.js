'use strict';

const fs = require('node:fs');
const { ROOT, testOnLinux } = require('../helpers/needs');
const { alive, identify } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useAnotherOwner } = require('./another-owner');

const world = useWorld();
const { elsewhere, belongings } = useAnotherOwner(world);

testOnLinux('ERR_OWNED_ELSEWHERE: a kept daemon that starts its own name does not end itself', async () => {
  const [started, outcome] = [world.path('go'), world.path('outcome')];
  // It loads the package, as a plugin may.
  const script = `
      const fs = require('node:fs');
      const { BackgroundProcessManager } = require(${JSON.stringify(ROOT)});
      require('node:net').createServer((client) => client.destroy()).listen(process.env.SOCKET_PATH);
      setTimeout(() => process.exit(9), 60_000);
      process.on('SIGTERM', () => { fs.writeFileSync(${JSON.stringify(outcome)}, 'SIGTERM'); process.exit(); });
      const timer = setInterval(() => {
        if (!fs.existsSync(${JSON.stringify(started)})) return;
        clearInterval(timer);
        const config = JSON.parse(fs.readFileSync(${JSON.stringify(started)}, 'utf8'));
        new BackgroundProcessManager({ envsDir: ${JSON.stringify(world.envsDir)} }).startProcess(config).catch(({ code }) => fs.writeFileSync(${JSON.stringify(outcome)}, code));
      }, 5);`;
  const config = world.config('plugin', [], { command: process.execPath, args: ['-e', script] });
  const { owner, daemon } = await elsewhere({ options: { onOwnerDeath: 'keep' }, configs: [config] });
  owner.child.kill('SIGKILL');
  await owner.exited;
  // The keeper has noticed the owner's death.
  await until(() => /^keeper /.test(fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8')));
  fs.writeFileSync(`${started}.new`, JSON.stringify(config));
  fs.renameSync(`${started}.new`, started);
  expect(await until(() => fs.existsSync(outcome) && fs.readFileSync(outcome, 'utf8'))).toBe('ERR_OWNED_ELSEWHERE');
  expect(alive(daemon)).toBe(true);
  // The start of another process replaces it.
  await world.manager().startProcess(world.config('plugin'));
  expect(alive(daemon)).toBe(false);
});

test('ERR_OWNED_ELSEWHERE: names the owner, and its daemon is left alone', async () => {
  const { owner, daemon } = await elsewhere({ configs: [world.config('plugin')] });
  const before = belongings(daemon);
  const manager = world.manager();
  const error = await failure(manager.startProcess(world.config('plugin')));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pluginName: 'plugin', pid: owner.pid });
  expect(error.message).toContain(String(owner.pid));
  expect(manager.isRunning('plugin')).toBe(false);
  expect(manager.getPid('plugin')).toBeUndefined();
  expect(belongings(daemon)).toEqual(before);
  expect(await connects(world.socket('plugin'))).toBe(true);

  // A stop here does not stop the other owner's daemon.
  await manager.stopProcess('plugin');
  await manager.stopAllProcesses();
  expect(belongings(daemon)).toEqual(before);
});

test('ERR_OWNED_ELSEWHERE: names an owner whose daemon is starting', async () => {
  const marker = world.path('family');
  const owner = world.owner('starts-and-ends.js', {
    configs: [world.config('plugin', ['leads-a-tree.py', marker, '--never-bind', 'willing'])],
    when: 'starting',
  });
  const daemon = identify((await owner.says('ready')).plugin);
  const error = await failure(world.manager().startProcess(world.config('plugin')));
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: owner.pid });
  expect(alive(daemon)).toBe(true);
});

test('ERR_OWNED_ELSEWHERE: names an owner whose daemon waits for a restart', async () => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  expect(await owner.asks('startProcess', world.config('plugin', ['serves.py'], { restart: { delay: 30_000 } }))).toEqual({});
  process.kill((await owner.asks('getPid', 'plugin')).value, 'SIGKILL');
  await until(async () => (await owner.asks('getState', 'plugin')).value === 'starting');
  const error = await failure(world.manager().startProcess(world.config('plugin')));
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: owner.pid });
});

test('lease: another owner can start as soon as stopProcess has resolved', async () => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  const config = world.config('plugin');
  const manager = world.manager();
  for (let round = 0; round < 5; round++) {
    expect(await owner.asks('startProcess', config)).toEqual({});
    expect((await failure(manager.startProcess(config))).code).toBe('ERR_OWNED_ELSEWHERE');
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    await manager.startProcess(config);
    expect(manager.isRunning('plugin')).toBe(true);
    const { error } = await owner.asks('startProcess', config);
    expect(error).toMatchObject({ isError: true, code: 'ERR_OWNED_ELSEWHERE', pid: process.pid });
    await manager.stopProcess('plugin');
  }
});

test('lease: another owner can start after a failed start and after ERROR', async () => {
  const owner = world.owner('obeys-commands.js', {}, { ipc: true });
  const manager = world.manager();
  const { error } = await owner.asks('startProcess', world.config('plugin', ['exits.py', '--code', '3']));
  expect(error.code).toBe('ERR_STARTUP_EXIT');
  await manager.startProcess(world.config('plugin'));
  await manager.stopProcess('plugin');

  expect(await owner.asks('startProcess', world.config('plugin', ['serves.py'], { restart: { maxAttempts: 0 } }))).toEqual({});
  process.kill((await owner.asks('getPid', 'plugin')).value, 'SIGKILL');
  await until(async () => (await owner.asks('getState', 'plugin')).value === 'error');
  await until(async () => {
    try {
      await manager.startProcess(world.config('plugin'));
      return true;
    } catch (refused) {
      if (refused.code !== 'ERR_OWNED_ELSEWHERE') throw refused;
      return false;
    }
  });
});

test('lease: concerns one name in one envsDir', async () => {
  const { owner, daemon } = await elsewhere({ configs: [world.config('plugin')] });
  const manager = world.manager();
  await manager.startProcess(world.config('other'));
  const apart = world.manager({ envsDir: world.path('apart') });
  await apart.startProcess(world.config('plugin', ['serves.py'], { socketPath: world.path('apart.sock') }));
  expect(apart.isRunning('plugin')).toBe(true);
  expect(alive(daemon)).toBe(true);
  expect(owner.gone).toBe(false);
});

test('lease: of three owners that start at the same time one gets it', async () => {
  const owners = [0, 1, 2].map(() => world.owner('obeys-commands.js', {}, { ipc: true }));
  await Promise.all(owners.map((owner) => owner.asks('isRunning', 'plugin')));
  const outcomes = await Promise.all(owners.map((owner) => owner.asks('startProcess', world.config('plugin'))));
  expect(outcomes.filter(({ error }) => !error)).toHaveLength(1);
  for (const { error } of outcomes.filter((outcome) => outcome.error)) expect(error.code).toBe('ERR_OWNED_ELSEWHERE');
  expect(await connects(world.socket('plugin'))).toBe(true);
});

test('lease: two managers of one process are two owners', async () => {
  const [one, two] = [world.manager(), world.manager()];
  await one.startProcess(world.config('plugin'));
  const daemon = identify(one.getPid('plugin'));
  const before = belongings(daemon);
  const error = await failure(two.startProcess(world.config('plugin')));
  expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: process.pid });
  expect(belongings(daemon)).toEqual(before);
  expect(one.isRunning('plugin')).toBe(true);

  await one.stopProcess('plugin');
  await two.startProcess(world.config('plugin'));
  expect(two.isRunning('plugin')).toBe(true);
  expect((await failure(one.startProcess(world.config('plugin')))).code).toBe('ERR_OWNED_ELSEWHERE');
  expect(two.isRunning('plugin')).toBe(true);
});
