'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { connects, useWorld } = require('./helpers/world');
const { alive, ancestors, descendants, identify, signal, testOnLinux } = require('./helpers/processes');
const { failure, until, watch } = require('./helpers/until');

const world = useWorld();

const GRACE = 500;

async function elsewhere(order, options) {
  const owner = world.owner('starts.js', order, options);
  const { plugin } = await owner.says('ready');
  return { owner, daemon: identify(plugin) };
}

/** Daemon, files and socket of another owner, to see that nothing has touched them. */
function belongings(daemon) {
  const { ino } = fs.lstatSync(world.socket('plugin'));
  const files = fs
    .readdirSync(world.folder('plugin'))
    .filter((name) => name !== 'daemon.sock')
    .sort();
  return { alive: alive(daemon), ino, files: files.map((name) => [name, fs.readFileSync(`${world.folder('plugin')}/${name}`, 'latin1')]) };
}

describe('a daemon that starts its own name', () => {
  testOnLinux('when its owner is dead, does not end itself', async () => {
    const [started, outcome] = [world.path('go'), world.path('outcome')];
    // With the package, as a plugin of Ally's would have it.
    const script = `
      const fs = require('node:fs');
      const { BackgroundProcessManager } = require(${JSON.stringify(path.join(__dirname, '..'))});
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
    // By then its keeper has noticed.
    await until(() => /^keeper /.test(fs.readFileSync(`${world.folder('plugin')}/daemon.lock`, 'utf8')));
    fs.writeFileSync(`${started}.new`, JSON.stringify(config));
    fs.renameSync(`${started}.new`, started);
    expect(await until(() => fs.existsSync(outcome) && fs.readFileSync(outcome, 'utf8'))).toBe('ERR_OWNED_ELSEWHERE');
    expect(alive(daemon)).toBe(true);
    // And another's start replaces it.
    await world.manager().startProcess(world.config('plugin'));
    expect(alive(daemon)).toBe(false);
  });
});

describe('another live owner', () => {
  test('is named, and what is its is left alone', async () => {
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

    // Nor does a stop here stop what runs there.
    await manager.stopProcess('plugin');
    await manager.stopAllProcesses();
    expect(belongings(daemon)).toEqual(before);
  });

  test('is named also while its daemon is starting', async () => {
    const marker = world.path('family');
    const owner = world.owner('starts.js', {
      configs: [world.config('plugin', ['family.py', marker, '--never-bind', 'willing'])],
      when: 'starting',
    });
    const daemon = identify((await owner.says('ready')).plugin);
    const error = await failure(world.manager().startProcess(world.config('plugin')));
    expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: owner.pid });
    expect(alive(daemon)).toBe(true);
  });

  test('is named also while its daemon waits for a restart', async () => {
    const owner = world.owner('obeys.js', {}, { ipc: true });
    expect(await owner.asks('startProcess', world.config('plugin', ['willing.py'], { restart: { delay: 30_000 } }))).toEqual({});
    process.kill((await owner.asks('getPid', 'plugin')).value, 'SIGKILL');
    await until(async () => (await owner.asks('getState', 'plugin')).value === 'starting');
    const error = await failure(world.manager().startProcess(world.config('plugin')));
    expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: owner.pid });
  });

  test('makes way in the moment that its stop resolves', async () => {
    const owner = world.owner('obeys.js', {}, { ipc: true });
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

  test('makes way also by a start that fails, and by giving up', async () => {
    const owner = world.owner('obeys.js', {}, { ipc: true });
    const manager = world.manager();
    const { error } = await owner.asks('startProcess', world.config('plugin', ['exits.py', '--code', '3']));
    expect(error.code).toBe('ERR_STARTUP_EXIT');
    await manager.startProcess(world.config('plugin'));
    await manager.stopProcess('plugin');

    expect(await owner.asks('startProcess', world.config('plugin', ['willing.py'], { restart: { maxAttempts: 0 } }))).toEqual({});
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

  test('is no matter to another name, or to another home', async () => {
    const { owner, daemon } = await elsewhere({ configs: [world.config('plugin')] });
    const manager = world.manager();
    await manager.startProcess(world.config('other'));
    const apart = world.manager({ envsDir: world.path('apart') });
    await apart.startProcess(world.config('plugin', ['willing.py'], { socketPath: world.path('apart.sock') }));
    expect(apart.isRunning('plugin')).toBe(true);
    expect(alive(daemon)).toBe(true);
    expect(owner.gone).toBe(false);
  });

  test('that starts at the same time: one of the two has it', async () => {
    const owners = [0, 1, 2].map(() => world.owner('obeys.js', {}, { ipc: true }));
    await Promise.all(owners.map((owner) => owner.asks('isRunning', 'plugin')));
    const outcomes = await Promise.all(owners.map((owner) => owner.asks('startProcess', world.config('plugin'))));
    expect(outcomes.filter(({ error }) => !error)).toHaveLength(1);
    for (const { error } of outcomes.filter((outcome) => outcome.error)) expect(error.code).toBe('ERR_OWNED_ELSEWHERE');
    expect(await connects(world.socket('plugin'))).toBe(true);
  });
});

test('two managers in one process are two owners', async () => {
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

describe('an owner that has died', () => {
  test('a start waits for the trees that are still being stopped', async () => {
    const { owner, daemon } = await elsewhere({ configs: [world.config('plugin', ['stubborn.py'], { shutdownGracePeriod: 1_000 })] });
    const manager = world.manager();
    owner.child.kill('SIGKILL');
    await owner.exited;
    expect(alive(daemon)).toBe(true);
    const start = watch(manager.startProcess(world.config('plugin')));
    await until(() => {
      if (alive(daemon)) expect(start.settled).toBe(false);
      return start.settled;
    });
    await start.promise;
    expect(alive(daemon)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(await connects(world.socket('plugin'))).toBe(true);
  });

  testOnLinux('whose pid is ours by now is waited for, and not taken for us', async () => {
    const manager = world.manager();
    await manager.startProcess(world.config('other'));
    const [, pid, began, id] = fs.readFileSync(`${world.folder('other')}/daemon.lock`, 'utf8').split(/\s/);
    expect(Number(pid)).toBe(process.pid);
    // As in a container that was made anew around the same volume: everything but the start is the same.
    fs.mkdirSync(world.folder('plugin'));
    fs.writeFileSync(`${world.folder('plugin')}/daemon.lock`, `owner ${pid} ${Number(began) - 1} ${id}\n`);
    const holder = spawn('python3', [
      '-c',
      'import fcntl, sys, time; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)',
      `${world.folder('plugin')}/daemon.lock`,
    ]);
    world.finally(() => holder.kill('SIGKILL'));
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    const start = watch(manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: 10_000 })));
    await manager.stopProcess('other');
    expect(start.settled).toBe(false);
    holder.kill('SIGKILL');
    await start.promise;
    expect(manager.isRunning('plugin')).toBe(true);
  });

  // Frozen first, so that none of them sees another one's end.
  function killTogether(processes) {
    for (const process of processes) signal(process, 'SIGSTOP');
    for (const process of processes) signal(process, 'SIGKILL');
  }

  testOnLinux('with its guardian: the orphan and its tree are replaced at the next start', async () => {
    const marker = world.path('family');
    const kinds = ['stubborn', 'grouped', 'fled', 'quiet'];
    const { owner, daemon } = await elsewhere({
      configs: [world.config('plugin', ['family.py', marker, ...kinds], { shutdownGracePeriod: GRACE })],
    });
    const family = await world.family(marker);
    const guardians = ancestors(daemon.pid).filter(({ pid }) => descendants(owner.pid).some((child) => child.pid === pid));
    expect(guardians.length).toBeGreaterThan(0);
    killTogether([identify(owner.pid), ...guardians]);
    await owner.exited;
    await until(() => !guardians.some(alive));

    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: GRACE }));
    expect(manager.isRunning('plugin')).toBe(true);
    expect(manager.getPid('plugin')).not.toBe(daemon.pid);
    expect(await connects(world.socket('plugin'))).toBe(true);
    // What fled to a session of its own has nothing left that proves where it came from, and is not signalled.
    const { fled, quiet, ...provable } = { leader: daemon, ...family };
    world.finally(() => [fled, quiet].forEach((process) => signal(process, 'SIGKILL')));
    expect(Object.keys(provable).filter((kind) => alive(provable[kind]))).toEqual([]);
  });

  testOnLinux('with its guardian: also what one of its tree leaves behind on SIGTERM', async () => {
    const marker = world.path('family');
    const { owner, daemon } = await elsewhere({ configs: [world.config('plugin', ['family.py', marker, 'heir'])] });
    const { heir } = await world.family(marker);
    const between = ancestors(daemon.pid).filter(({ pid }) => descendants(owner.pid).some((child) => child.pid === pid));
    killTogether([identify(owner.pid), ...between]);
    await owner.exited;
    await until(() => ![...between, daemon].some(alive));
    expect(alive(heir)).toBe(true);

    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: GRACE }));
    const forked = identify(Number(fs.readFileSync(`${marker}.forked`, 'utf8')));
    expect([heir, forked].filter(alive)).toEqual([]);
    expect(manager.isRunning('plugin')).toBe(true);
  });

  testOnLinux('with its guardian, where daemons are kept: the orphan is replaced at the next start', async () => {
    const { owner, daemon } = await elsewhere({ options: { onOwnerDeath: 'keep' }, configs: [world.config('plugin')] });
    const guardians = ancestors(daemon.pid).filter(({ pid }) => descendants(owner.pid).some((child) => child.pid === pid));
    killTogether([identify(owner.pid), ...guardians]);
    await owner.exited;
    await until(() => !guardians.some(alive));

    const manager = world.manager();
    await manager.startProcess(world.config('plugin'));
    expect(alive(daemon)).toBe(false);
    expect(manager.isRunning('plugin')).toBe(true);
  });

  test('that left a bare pid: what has a session of its own goes too, and what is made on SIGTERM', async () => {
    const marker = world.path('family');
    world.makeFolder('plugin');
    const old = world.orphan(['family.py', marker, 'apart', 'forks'], { socketPath: world.socket('plugin') });
    const family = Object.values(await world.family(marker));
    await until(() => connects(world.socket('plugin')));
    fs.writeFileSync(world.pidFile('plugin'), `${old.pid}\n`);

    const manager = world.manager();
    const start = watch(manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: GRACE })));
    // Made when SIGTERM had been sent to everyone.
    const forked = identify(Number(await until(() => fs.existsSync(`${marker}.forked`) && fs.readFileSync(`${marker}.forked`, 'utf8'))));
    expect(start.settled).toBe(false);
    await start.promise;
    expect([old, ...family, forked].filter(alive)).toEqual([]);
    expect(manager.isRunning('plugin')).toBe(true);
    expect(await connects(world.socket('plugin'))).toBe(true);
  });

  testOnLinux('that left a bare pid: what it makes while it is being killed goes too', async () => {
    const marker = world.path('children');
    world.makeFolder('plugin');
    const old = world.orphan(['breeds.py', marker], { socketPath: world.socket('plugin') });
    world.finally(() => children().forEach((child) => signal(child, 'SIGKILL')));
    const children = () =>
      fs
        .readFileSync(marker, 'utf8')
        .trim()
        .split('\n')
        .map((pid) => identify(Number(pid)));
    await until(() => fs.existsSync(marker) && children().length > 20);
    fs.writeFileSync(world.pidFile('plugin'), `${old.pid}\n`);

    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['willing.py'], { shutdownGracePeriod: 0 }));
    expect([old, ...children()].filter(alive)).toEqual([]);
    expect(manager.isRunning('plugin')).toBe(true);
  });

  test('a moment ago, by SIGKILL: a start in the same turn is not refused', async () => {
    const configs = Array.from({ length: 10 }, (_, index) =>
      world.config(`plugin-${index}`, ['willing.py'], { shutdownGracePeriod: GRACE }),
    );
    const owners = configs.map((config) => world.owner('starts.js', { configs: [config] }));
    await Promise.all(owners.map((owner) => owner.says('ready')));
    const manager = world.manager();
    // What a first start costs would give the owner its time to die.
    await manager.startProcess(world.config('warm'));
    for (const [index, config] of configs.entries()) {
      const daemon = identify(owners[index].lines.find((line) => 'ready' in line).ready[config.pluginName]);
      owners[index].child.kill('SIGKILL');
      await manager.startProcess(config);
      expect([index, alive(daemon), manager.isRunning(config.pluginName)]).toEqual([index, false, true]);
    }
  });

  test('with nothing but its files left behind is no hindrance', async () => {
    const { owner, daemon } = await elsewhere({ configs: [world.config('plugin', ['willing.py'], { shutdownGracePeriod: GRACE })] });
    const saved = belongings(daemon).files;
    owner.child.kill('SIGKILL');
    await owner.exited;
    await until(() => !alive(daemon));
    // As a machine that lost its power would have left them.
    for (const [name, text] of saved) fs.writeFileSync(`${world.folder('plugin')}/${name}`, text, 'latin1');
    const manager = world.manager();
    await manager.startProcess(world.config('plugin'));
    expect(manager.isRunning('plugin')).toBe(true);
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${manager.getPid('plugin')}\n`);
  });
});
