'use strict';

// A look at processes that fails, or that a process is hard to see in, is no look that found nobody.

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { useWorld } = require('./helpers/world');
const { alive, ancestors, descendants, identify, signal, stat, testOnLinux } = require('./helpers/processes');
const { until } = require('./helpers/until');
const { message, setting } = require('./fixtures/faults/setting');
const { SOMEBODY, as, inject, testWith } = require('./fixtures/faults/tools');

const world = useWorld();
const { obedient, config, goesOn, thread } = setting(world);

/** A running daemon with such a family, and what stands between its owner and it. */
async function family(kinds, changes) {
  const marker = world.path('family');
  const owner = obedient();
  expect(await owner.asks('startProcess', config('plugin', ['family.py', marker, ...kinds], changes))).toEqual({});
  const leader = identify((await owner.asks('getPid', 'plugin')).value);
  const [keeper, guardian] = ancestors(leader.pid);
  return { owner, marker, leader, keeper, guardian, ...(await world.family(marker)) };
}

describe('a look that fails', () => {
  testWith('strace')("of the guardian's does not let what a killed keeper left get away", async () => {
    const { keeper, guardian, fled, owner } = await family(['fled']);
    const fault = await inject(world, guardian.pid, ['openat:error=ENFILE:when=1'], { file: `/proc/${guardian.pid}/task` });
    signal(keeper, 'SIGKILL');
    await until(() => !alive(fled));
    await fault.stop();
    expect(fault.injected()).toBe(1);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  });

  testWith('strace')("of a keeper's is no end of the group", async () => {
    const { keeper, stubborn, owner } = await family(['stubborn'], { killMode: 'group' });
    // A look reads its list twice if it finds anyone. The first look is for who is to be asked; at the next the leader has gone.
    const fault = await inject(world, keeper.pid, ['openat:error=ENFILE:when=3'], { file: `/proc/${keeper.pid}/task` });
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(alive(stubborn)).toBe(false);
    await fault.stop();
    expect(fault.injected()).toBe(1);
  });

  testWith('strace')("of a keeper's does not cost the tree its time to go by itself", async () => {
    const { keeper, leader, marker, owner } = await family(['willing'], { shutdownGracePeriod: 10_000 });
    const fault = await inject(world, keeper.pid, ['openat:error=ENFILE:when=1'], { file: `/proc/${keeper.pid}/task` });
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(fs.existsSync(`${marker}.willing`)).toBe(true);
    expect(alive(leader)).toBe(false);
    await fault.stop();
    expect(fault.injected()).toBe(1);
  });

  testWith('strace', 'Linux 6.9')("of a keeper's, again and again, leaves the leader's group nowhere to hide", async () => {
    const { keeper, stubborn, leader, owner } = await family(['stubborn']);
    const fault = await inject(world, keeper.pid, ['openat:error=ENFILE'], { file: `/proc/${keeper.pid}/task` });
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect([leader, stubborn].filter(alive)).toEqual([]);
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
  });

  testWith('strace')("at a dead owner's daemon refuses the start, and its record stays", async () => {
    const { owner: dead, leader, keeper, guardian, stubborn } = await family(['stubborn']);
    const owner = obedient();
    await goesOn(owner, 'warm');
    const doomed = [identify(dead.pid), guardian, keeper];
    for (const name of ['SIGSTOP', 'SIGKILL']) for (const process of doomed) signal(process, name);
    await until(() => ![...doomed, leader].some(alive));
    const record = path.join(world.folder('plugin'), 'daemon.id');
    const before = fs.readFileSync(record, 'utf8');

    const fault = await inject(world, await thread(owner), ['openat:error=EMFILE'], { file: `/proc/${stubborn.pid}/stat` });
    expect((await owner.asks('startProcess', config())).error).toEqual(message('ERR_IO', '/proc: EMFILE'));
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
    expect([alive(stubborn), fs.readFileSync(record, 'utf8')]).toEqual([true, before]);
    await goesOn(owner);
    expect(alive(stubborn)).toBe(false);
  });
});

describe('a process whose first thread has ended', () => {
  const isHeadless = (pid) => until(() => stat(pid).state === 'Z');

  testOnLinux('runs, has its record, and is stopped', async () => {
    const manager = world.manager();
    await manager.startProcess(config('plugin', ['headless.py']));
    const daemon = identify(manager.getPid('plugin'));
    await isHeadless(daemon.pid);
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${daemon.pid}\n`);
    expect(manager.isRunning('plugin')).toBe(true);
    await manager.stopProcess('plugin');
    expect(alive(daemon)).toBe(false);
  });

  testOnLinux('goes with its owner', async () => {
    const owner = obedient();
    expect(await owner.asks('startProcess', config('plugin', ['headless.py']))).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    await isHeadless(daemon.pid);
    owner.child.kill('SIGKILL');
    await owner.exited;
    await until(() => !alive(daemon));
  });

  testOnLinux('is one of its group', async () => {
    const marker = world.path('headless');
    const manager = world.manager();
    await manager.startProcess(config('plugin', ['headless.py', marker], { killMode: 'group' }));
    const member = identify(Number(await until(() => fs.existsSync(marker) && fs.readFileSync(marker, 'utf8'))));
    await isHeadless(member.pid);
    await manager.stopProcess('plugin');
    expect(alive(member)).toBe(false);
  });
});

describe('a number that comes to mean another process', () => {
  function recycled(scenario, order) {
    const driver = path.join(__dirname, 'fixtures/faults/recycles.js');
    const words = [
      '-pf',
      '--mount-proc',
      '--kill-child',
      process.execPath,
      driver,
      scenario,
      JSON.stringify({ dir: world.dir, envsDir: world.envsDir, ...order }),
    ];
    return JSON.parse(execFileSync('unshare', words, { encoding: 'utf8', env: { ...process.env, TEST_WORLD: world.dir } }));
  }
  const once = { restart: { maxAttempts: 0 } };

  testWith('namespaces of its own')("is not taken for the leader's whose keeper was killed", () => {
    expect(recycled('leader', { config: config('plugin', ['willing.py'], once) })).toEqual({ harmed: false });
  });

  testWith('namespaces of its own')("is not taken for the keeper's that was swept up after before", () => {
    const marker = world.path('family');
    const other = config('other', ['family.py', marker, 'fled'], { ...once, socketPath: world.path('o') });
    expect(recycled('keeper', { config: config('plugin', ['willing.py'], once), other, marker })).toEqual({
      stop: 'ERR_STOP_FAILED',
      fledLives: true,
    });
  });
});

describe('where /proc hides what may not be traced', () => {
  const hidden = (order) => {
    fs.chmodSync(world.dir, 0o777);
    fs.chmodSync(world.pluginPath, 0o777);
    const hide = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"';
    const owner = obedient(order, { before: ['unshare', '-mpf', '/bin/sh', '-c', hide, 'sh', ...as(SOMEBODY)] });
    // As another user it doesn't go with unshare(1).
    world.finally(() => owner.child.disconnect());
    return owner;
  };

  testWith(
    'namespaces of its own',
    'another user that can load the package',
    'perl',
  )('a stop meets it all the same', async () => {
    const owner = hidden();
    // prctl(PR_SET_DUMPABLE, 0), once its pid file is there.
    const prctl = process.arch === 'arm64' ? 167 : 157;
    const script = `select(undef, undef, undef, 0.005) until -e $ENV{GO}; syscall(${prctl}, 4, 0); open(DONE, ">", "$ENV{GO}.done"); close(DONE); sleep 60 while 1`;
    const go = world.path('go');
    const start = owner.asks(
      'startProcess',
      config('plugin', [], { command: 'perl', args: ['-e', script], envVars: { GO: go }, socketPath: world.path('s') }),
    );
    const pid = await until(async () => (await owner.asks('getPid', 'plugin')).value);
    fs.writeFileSync(go, '');
    await until(() => fs.existsSync(`${go}.done`));
    expect((await owner.asks('list', '/proc')).value).not.toContain(String(pid));
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect((await owner.asks('getProcessInfo', 'plugin')).value.lastExit).toMatchObject({ pid, signal: 'SIGTERM' });
    expect((await start).error.code).toBe('ERR_STOPPED');
  });

  testWith('namespaces of its own', 'another user that can load the package')(
    'one that nobody could recognise later is not kept',
    async () => {
      const owner = hidden();
      // Who may not read its program may not trace it.
      const program = world.path('program');
      fs.copyFileSync('/bin/sh', program);
      fs.chmodSync(program, 0o711);
      const { error } = await owner.asks(
        'startProcess',
        config('plugin', [], { command: program, args: ['-c', 'while :; do sleep 60; done'], socketPath: world.path('s') }),
      );
      expect(error).toEqual(message('ERR_IO', '/proc: EACCES'));
      expect(descendants(owner.pid).filter(({ pid }) => /sleep|program/.test(fs.readFileSync(`/proc/${pid}/comm`, 'utf8')))).toEqual([]);
    },
  );
});
