'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { alive, identify } = require('../helpers/proc');
const { watch } = require('../helpers/promises');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { expectCleared, useWorld } = require('../helpers/use-world');
const { useRecords } = require('./records');

const world = useWorld();
const { ours, mode } = useRecords(world);

const read = (file) => {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
};

/** The files beside daemon.pid that exist while the daemon runs and are removed with it. */
async function sidecars(manager, config) {
  await manager.startProcess(config);
  const during = ours(config.pluginName);
  await manager.stopProcess(config.pluginName);
  const after = ours(config.pluginName);
  return during.filter((file) => file !== 'daemon.pid' && !after.includes(file));
}

test('daemon.pid: holds the pid and a newline long before readiness', async () => {
  const manager = world.manager();
  const go = world.path('go');
  const start = watch(manager.startProcess(world.config('plugin', ['listens-late.py', go])));
  const text = await until(() => read(world.pidFile('plugin')));
  expect(manager.getState('plugin')).toBe('starting');
  expect(start.settled).toBe(false);
  const pid = await until(() => manager.getPid('plugin'));
  expect(text).toBe(`${pid}\n`);
  // daemon.id comes as early.
  await until(() => ours('plugin').some((file) => file !== 'daemon.pid'));

  fs.writeFileSync(go, '');
  await start.promise;
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
});

test('daemon.pid: exists when getPid first has a value', async () => {
  const manager = world.manager();
  for (let round = 0; round < 10; round++) {
    const start = manager.startProcess(world.config('plugin'));
    // Without a turn of the event loop, which would take longer than writing the file.
    let pid;
    for (const end = performance.now() + 5_000; pid === undefined && performance.now() < end; ) pid = manager.getPid('plugin');
    expect(read(world.pidFile('plugin'))).toBe(`${pid}\n`);
    await start;
    await manager.stopProcess('plugin');
  }
});

test('daemon.id: lies beside daemon.pid, and both are removed by the stop', async () => {
  const found = await sidecars(world.manager(), world.config('plugin'));
  expect(found.length).toBeGreaterThan(0);
  expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
});

test('daemon.pid and all other files: have mode 600 in folders of mode 700, whatever the umask of the process', async () => {
  const umask = process.umask(0);
  world.finally(() => process.umask(umask));
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { socketPath: world.path('s') }));
  expect(fs.lstatSync(world.envsDir).isDirectory()).toBe(true);
  expect(mode(world.envsDir)).toBe(0o700);
  expect(mode(world.folder('plugin'))).toBe(0o700);
  const files = ours('plugin');
  expect(files.length).toBeGreaterThan(1);
  for (const file of files) {
    expect([file, mode(path.join(world.folder('plugin'), file))]).toEqual([file, 0o600]);
    expect(fs.lstatSync(path.join(world.folder('plugin'), file)).uid).toBe(process.getuid());
  }
});

test('daemon.pid: names the new leader after a restart', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { delay: 0 } }));
  const first = manager.getPid('plugin');
  process.kill(first, 'SIGKILL');
  const second = await until(() => runsAnew(manager, 'plugin', first) && manager.getPid('plugin'));
  expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${second}\n`);
});

test('daemon.pid: is removed after a crash without a restart', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { restart: { maxAttempts: 0 } }));
  process.kill(manager.getPid('plugin'), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'error');
  await expectCleared(world, 'plugin');
});

test('daemon.pid: stays until the whole tree is gone', async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await manager.startProcess(
    world.config('plugin', ['leads-a-tree.py', marker, 'stubborn'], { restart: { delay: 0 }, shutdownGracePeriod: 700 }),
  );
  const { stubborn } = await world.tree(marker);
  const leader = identify(manager.getPid('plugin'));
  process.kill(leader.pid, 'SIGKILL');
  await until(() => !manager.isRunning('plugin'));
  // While a descendant lives, the file names the leader.
  let looks = 0;
  await until(() => {
    const text = read(world.pidFile('plugin'));
    if (!alive(stubborn)) return true;
    expect(text).toBe(`${leader.pid}\n`);
    looks++;
    return false;
  });
  expect(looks).toBeGreaterThan(3);
  await until(() => manager.isRunning('plugin'));
});

test("daemon.pid: is the plugin's own, and other files in the folder stay", async () => {
  const folder = world.makeFolder('plugin');
  fs.mkdirSync(path.join(folder, 'bin'));
  fs.writeFileSync(path.join(folder, '.installed'), 'yes');
  const manager = world.manager();
  await Promise.all(['plugin', 'other'].map((name) => manager.startProcess(world.config(name))));
  for (const name of ['plugin', 'other']) {
    expect(fs.readFileSync(world.pidFile(name), 'utf8')).toBe(`${manager.getPid(name)}\n`);
  }
  await manager.stopAllProcesses();
  expect(fs.readFileSync(path.join(folder, '.installed'), 'utf8')).toBe('yes');
  expect(fs.existsSync(path.join(folder, 'bin'))).toBe(true);
});
