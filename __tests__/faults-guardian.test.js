'use strict';

// Faults of the system, put in one at a time: each ends in a clear error or in a slower path that works, and the
// manager goes on. strace makes system calls fail; where it is missing, those tests are skipped and say so.
// Here: the guardian and its keepers, other users' processes, two owners at once.

const fs = require('node:fs');
const path = require('node:path');
const { useWorld } = require('./helpers/world');
const { alive, children, identify, mentioning, signal } = require('./helpers/processes');
const { until } = require('./helpers/until');
const { message, setting } = require('./fixtures/faults/setting');
const { ANOTHER, ROOT, SOMEBODY, as, copyPackage, inject, testWith, zombies } = require('./fixtures/faults/tools');

const world = useWorld();
const { obedient, config, goesOn, others, thread, guardianOf, between } = setting(world);

describe('one system call of the guardian or a keeper fails', () => {
  testWith('strace').each([
    // call, errno, whether keepers count, what the start says; null: it works, by another guardian
    ['recvmsg', 'ENOMEM', false, null],
    ['recvfrom', 'ENOMEM', false, null],
    ['mmap', 'ENOMEM', false, null],
    ['clone,clone3', 'EAGAIN', false, 'EAGAIN'],
    ['pipe2', 'EMFILE', true, 'EMFILE'],
    ['setsid', 'EPERM', true, 'EPERM'],
    ['chdir', 'EIO', true, 'EIO'],
    ['openat', 'EMFILE', true, 'EMFILE'],
    ['dup2,dup3', 'EMFILE', true, 'EMFILE'],
  ])('%s: %s', async (call, errno, follow, expected) => {
    const owner = obedient();
    await goesOn(owner);
    const fault = await inject(world, (await guardianOf(owner)).pid, [`${call}:error=${errno}:when=1`], { follow });
    const { error } = await owner.asks('startProcess', config());
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
    if (expected) {
      expect(error).toEqual(message('ERR_SPAWN', expected));
      expect(others(owner)).toEqual([]);
    } else {
      expect(error).toBeUndefined();
    }
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    await goesOn(owner);
    await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
  });

  testWith('strace')('the keeper can make no process', async () => {
    const owner = obedient();
    await goesOn(owner);
    // Counted for each process: the second order passes the guardian, and fails in its keeper.
    const fault = await inject(world, (await guardianOf(owner)).pid, ['clone,clone3:error=EAGAIN:when=1'], { follow: true });
    for (let order = 1; order <= 2; order++) {
      expect((await owner.asks('startProcess', config())).error).toEqual(message('ERR_SPAWN', 'EAGAIN'));
      expect(others(owner)).toEqual([]);
      expect(fault.injected()).toBe(order);
    }
    expect(new Set(fault.calls().map((line) => line.split(' ')[0])).size).toBe(2);
    await fault.stop();
    await goesOn(owner);
  });

  const KINDS = ['stubborn', 'willing', 'grouped', 'fled'];

  async function withFamily(owner, changes) {
    const marker = world.path('family');
    expect(await owner.asks('startProcess', config('plugin', ['family.py', marker, ...KINDS], changes))).toEqual({});
    const leader = identify((await owner.asks('getPid', 'plugin')).value);
    const family = Object.values(await world.family(marker));
    return { leader, tree: [leader, ...family], keeper: between(owner, leader)[0] };
  }

  testWith('strace').each([
    // On an old kernel: by kill(2), after another look.
    ['pidfd_open:error=ENOSYS', 4],
    ['pidfd_open:error=EPERM', 4],
    // SIGTERM reaches nobody the first time; SIGKILL is sent again and again.
    ['pidfd_open:error=EMFILE:when=1..8', 8],
    ['pidfd_open:error=ENFILE:when=1..12', 12],
    ['pidfd_send_signal:error=EPERM:when=1..12', 12],
  ])('a whole tree is stopped in spite of %s', async (injection, atLeast) => {
    const owner = obedient();
    const { tree, keeper } = await withFamily(owner);
    const fault = await inject(world, keeper.pid, [injection]);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(tree.filter(alive)).toEqual([]);
    await fault.stop();
    expect(fault.injected()).toBeGreaterThanOrEqual(atLeast);
    await goesOn(owner);
  });

  testWith('strace')('what a killed keeper has left is swept by the guardian without pidfds', async () => {
    const owner = obedient();
    const { tree, keeper } = await withFamily(owner, { restart: { delay: 0 } });
    const fault = await inject(world, (await guardianOf(owner)).pid, ['pidfd_open:error=ENOSYS']);
    signal(keeper, 'SIGKILL');
    await until(() => !tree.some(alive));
    await owner.asks('reached', 'plugin', 'running');
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  });

  testWith('strace')('what refuses to die for good is named, and not waited for', async () => {
    const owner = obedient();
    const { tree, leader, keeper } = await withFamily(owner, { shutdownGracePeriod: 50 });
    const record = fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8');
    const fault = await inject(world, keeper.pid, ['pidfd_send_signal:error=EPERM']);
    const began = performance.now();
    const { error } = await owner.asks('stopProcess', 'plugin');
    expect(performance.now() - began).toBeLessThan(4_000);
    expect(error).toEqual(message('ERR_STOP_FAILED', String(leader.pid)));
    for (const { pid } of tree) expect(error.message).toContain(String(pid));
    expect((await owner.asks('getState', 'plugin')).value).toBe('error');
    expect(tree.every(alive)).toBe(true);
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${leader.pid}\n`);
    expect(fs.readFileSync(path.join(world.folder('plugin'), 'daemon.id'), 'utf8')).toBe(record);
    // A second daemon beside the first one there is not.
    expect((await owner.asks('startProcess', config())).error).toEqual(message('ERR_ALREADY_RUNNING'));

    await fault.stop();
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(tree.filter(alive)).toEqual([]);
    await goesOn(owner);
  });
});

describe('a keeper that keeps its tree for a dead owner', () => {
  testWith('strace')('and cannot end it: the next start names what is left, and its identity stays', async () => {
    const former = obedient({ options: { onOwnerDeath: 'keep' } });
    const marker = world.path('family');
    expect(
      await former.asks('startProcess', config('plugin', ['family.py', marker, 'stubborn', 'fled'], { shutdownGracePeriod: 50 })),
    ).toEqual({});
    const leader = identify((await former.asks('getPid', 'plugin')).value);
    const tree = [leader, ...Object.values(await world.family(marker))];
    world.finally(() => tree.forEach((process) => signal(process, 'SIGKILL')));
    const [keeper] = between(former, leader);
    const file = (name) => fs.readFileSync(path.join(world.folder('plugin'), name), 'utf8');
    const record = file('daemon.id');
    former.child.kill('SIGKILL');
    await former.exited;
    await until(() => file('daemon.lock').startsWith(`keeper ${keeper.pid} `));

    const next = obedient();
    const fault = await inject(world, keeper.pid, ['pidfd_send_signal:error=EPERM']);
    const { error } = await next.asks('startProcess', config());
    expect(error).toEqual(message('ERR_STOP_FAILED', String(leader.pid)));
    for (const { pid } of tree) expect(error.message).toContain(String(pid));
    expect((await next.asks('getState', 'plugin')).value).toBe('error');
    expect(tree.every(alive)).toBe(true);
    expect([file('daemon.id'), file('daemon.pid')]).toEqual([record, `${leader.pid}\n`]);
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
    await goesOn(next);
    expect(tree.filter(alive)).toEqual([]);
  });
});

describe('a daemon that changed its user', () => {
  /** By a setuid program, as sudo is one: what comes of it can't be signalled by the user who started it. */
  async function changed() {
    const change = world.path('setpriv');
    fs.copyFileSync('/usr/bin/setpriv', change);
    fs.chmodSync(change, 0o4755);
    for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
    const [, ...words] = as(ANOTHER);
    const serve = `const net = require('net'); process.umask(0); net.createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH); setTimeout(() => {}, 60_000)`;
    const owner = obedient({}, { before: as(SOMEBODY) });
    expect(
      await owner.asks(
        'startProcess',
        config('plugin', [], {
          command: change,
          args: [...words, process.execPath, '-e', serve],
          socketPath: world.path('s'),
          shutdownGracePeriod: 50,
        }),
      ),
    ).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    world.finally(() => signal(daemon, 'SIGKILL'));
    expect(fs.statSync(`/proc/${daemon.pid}`).uid).toBe(Number(ANOTHER));
    return { owner, daemon, serve };
  }

  testWith('root', 'another user that can load the package')(
    'is named by a stop, and not waited for; once it is gone the name is free',
    async () => {
      const { owner, daemon, serve } = await changed();
      const { error } = await owner.asks('stopProcess', 'plugin');
      expect(error).toEqual(message('ERR_STOP_FAILED', String(daemon.pid)));
      expect((await owner.asks('getState', 'plugin')).value).toBe('error');
      expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${daemon.pid}\n`);
      signal(daemon, 'SIGKILL');
      await until(() => !fs.existsSync(world.pidFile('plugin')));
      fs.rmSync(world.path('s'), { force: true });
      await goesOn(owner, 'plugin', { socketPath: world.path('t'), command: process.execPath, args: ['-e', serve] });
    },
  );

  testWith('root', 'another user that can load the package')("and whose keeper was killed stays in nobody else's way", async () => {
    const { owner, daemon, serve } = await changed();
    const start = (name) =>
      owner.asks(
        'startProcess',
        config(name, [], {
          command: process.execPath,
          args: ['-e', serve],
          socketPath: world.path(`${name}.s`),
          restart: { delay: 0 },
        }),
      );
    expect(await start('other')).toEqual({});
    const other = identify((await owner.asks('getPid', 'other')).value);

    // A setuid program takes no parent-death signal, and the guardian can't end it either.
    signal(between(owner, daemon)[0], 'SIGKILL');
    await owner.asks('reached', 'plugin', 'error');
    expect((await owner.asks('getProcessInfo', 'plugin')).value.lastError).toContain(String(daemon.pid));
    signal(between(owner, other)[0], 'SIGKILL');
    await until(() => !alive(other));
    await owner.asks('reached', 'other', 'running');
    expect(alive(daemon)).toBe(true);

    signal(daemon, 'SIGKILL');
    await until(async () => !(await start('plugin')).error);
  });
});

describe('an owner that changes its user', () => {
  testWith('root', 'another user that can load the package')('gives its next daemons no more than it has', async () => {
    fs.chmodSync(world.dir, 0o777);
    fs.chmodSync(world.pluginPath, 0o777);
    fs.mkdirSync(world.envsDir, { mode: 0o755 });
    fs.chownSync(world.makeFolder('second'), Number(SOMEBODY), Number(SOMEBODY));
    const owner = obedient();
    const lasts = (name) => config(name, [], { command: '/bin/sh', args: ['-c', 'sleep 60'], socketPath: world.path(`${name}.sock`) });
    const user = async (name) => {
      const start = owner.asks('startProcess', lasts(name));
      const pid = await until(async () => (await owner.asks('getPid', name)).value);
      return { start, uid: fs.statSync(`/proc/${pid}`).uid };
    };
    const first = await user('first');
    expect(first.uid).toBe(0);
    expect(await owner.asks('stopProcess', 'first')).toEqual({});
    await first.start;
    await owner.asks('become', Number(SOMEBODY));
    const second = await user('second');
    expect(second.uid).toBe(Number(SOMEBODY));
    expect(await owner.asks('stopProcess', 'second')).toEqual({});
    await second.start;
  });
});

describe('the guardian', () => {
  const broken = {
    'is missing': [(file) => fs.rmSync(file), 'ENOENT'],
    'may not be run': [(file) => fs.chmodSync(file, 0o644), 'EACCES'],
    'is a folder': [(file) => (fs.rmSync(file), fs.mkdirSync(file)), 'EACCES'],
    'is no program': [(file) => fs.writeFileSync(file, 'no program\n'), 'ENOEXEC'],
    'is empty': [(file) => fs.writeFileSync(file, ''), 'ENOEXEC'],
    'ends at once': [(file) => fs.writeFileSync(file, '#!/bin/sh\nexit 0\n'), 'guardian'],
    'is killed at once': [(file) => fs.writeFileSync(file, '#!/bin/sh\nkill -KILL $$\n'), 'guardian'],
  };

  test.each(Object.keys(broken))('%s: a start says so, and works once it is mended', async (how) => {
    const { copy, guardian } = copyPackage(world);
    const kept = `${guardian}.kept`;
    fs.copyFileSync(guardian, kept);
    const owner = obedient({ package: copy });
    const [harm, says] = broken[how];
    harm(guardian);
    for (let time = 0; time < 2; time++) {
      const { error } = await owner.asks('startProcess', config());
      expect(error).toEqual(message(says === 'guardian' ? 'ERR_INTERNAL' : 'ERR_UNSUPPORTED', says));
      if (says !== 'guardian') expect(error.message).toContain(guardian);
      expect((await owner.asks('getState', 'plugin')).value).toBe('error');
      expect(others(owner)).toEqual([]);
    }
    await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
    fs.rmSync(guardian, { recursive: true, force: true });
    fs.renameSync(kept, guardian);
    await goesOn(owner);
  });

  test('ends at once, again and again: the next one is waited with for ever longer', async () => {
    const { copy, guardian } = copyPackage(world);
    const kept = `${guardian}.kept`;
    const owner = obedient({ package: copy });
    expect(await owner.asks('startProcess', config())).toEqual({});
    const daemon = identify((await owner.asks('getPid', 'plugin')).value);
    const real = await guardianOf(owner);
    // Each leaves a file whose time says when it was there. No other program is run for it: that it is short-lived counts.
    fs.mkdirSync(world.path('lives'));
    fs.renameSync(guardian, kept);
    fs.writeFileSync(guardian, `#!/bin/sh\n: >'${world.path('lives')}'/$$\n`, { mode: 0o755 });
    const lives = () =>
      fs
        .readdirSync(world.path('lives'))
        .map((name) => fs.statSync(world.path('lives', name)).mtimeMs)
        .sort((a, b) => a - b);
    signal(real, 'SIGKILL');
    // 200 ms, and doubled from one to the next; what stamps a file has a clock of 10 ms at most. One that this machine was
    // slow to run was no short life, and it begins anew.
    await until(() => {
      const gaps = lives().map((time, index, all) => time - all[index - 1]);
      return gaps.some((_, index) => [200, 400, 800].every((pause, later) => gaps[index + later] >= pause - 10));
    });
    expect(lives().length).toBeLessThan(15);
    expect(alive(daemon)).toBe(true);

    // A start doesn't wait for that, and doesn't try for ever.
    const before = lives().length;
    expect((await owner.asks('startProcess', config('other'))).error).toMatchObject({
      code: 'ERR_INTERNAL',
      message: expect.stringContaining('guardian'),
    });
    expect(lives().length - before).toBeLessThan(10);
    expect((await owner.asks('getState', 'plugin')).value).toBe('running');
    fs.renameSync(kept, guardian);
    await goesOn(owner, 'other');
    expect(alive(daemon)).toBe(true);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
  });

  testWith('strace')('has only what it needs open, also where close_range is unknown', async () => {
    // Beyond the first ones, which Node sees to itself.
    const owner = obedient({}, { before: ['bash', '-c', 'exec 200</dev/null; exec "$@"', 'bash'] });
    await goesOn(owner);
    signal(await guardianOf(owner), 'SIGKILL');
    await until(() => children(owner.pid).length === 0);
    const open = (pid) => fs.readdirSync(`/proc/${pid}/fd`).sort();
    expect(open(owner.pid)).toContain('200');
    const fault = await inject(world, await thread(owner), ['close_range:error=ENOSYS'], { follow: 'programs' });
    expect(await owner.asks('startProcess', config())).toEqual({});
    const guardian = await guardianOf(owner);
    // It lets go of what it has handed on.
    await until(() => open(guardian.pid).join() === '0,1,2');
    const daemon = (await owner.asks('getPid', 'plugin')).value;
    expect(open(daemon)).not.toContain('200');
    await fault.stop();
    expect(fault.injected()).toBeGreaterThan(0);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  });

  /** A guardian of nobody's making in its place, until `mend`. */
  function raving() {
    const { copy, guardian } = copyPackage(world);
    const kept = `${guardian}.kept`;
    fs.renameSync(guardian, kept);
    const raves = path.join(ROOT, '__tests__', 'fixtures', 'faults', 'raves.py');
    fs.writeFileSync(guardian, `#!/bin/sh\nexec '${process.env.TEST_PYTHON}' -S -E -B '${raves}'\n`, { mode: 0o755 });
    const owner = obedient({ package: copy });
    /** What was ordered there and never made is then ordered from a real one. */
    const mend = async () => {
      fs.renameSync(kept, guardian);
      for (const child of children(owner.pid)) signal(child, 'SIGKILL');
    };
    return { owner, mend };
  }

  test('and a keeper that say what they like are not believed, and nobody waits for them', async () => {
    const { owner, mend } = raving();
    // One order each; what raves.py answers goes by their number.
    const names = Array.from({ length: 24 }, (_, index) => `plugin-${index}`);
    const outcomes = await Promise.all(
      names.map((name) => owner.asks('startProcess', config(name, ['willing.py'], { startupTimeout: 400, shutdownGracePeriod: 50 }))),
    );
    const codes = outcomes.map(({ error }) => error?.code ?? 'resolved');
    // Some of the orders are taken, and nothing is ever said.
    expect(codes).toContain('ERR_STARTUP_TIMEOUT');
    expect(codes.filter((code) => !/^ERR_(INTERNAL|SPAWN|STARTUP_EXIT|STARTUP_TIMEOUT|IO)$/.test(code))).toEqual([]);
    await mend();
    expect(await Promise.all(names.map((name) => owner.asks('stopProcess', name)))).toEqual(names.map(() => ({})));
    expect(others(owner)).toEqual([]);
    await goesOn(owner);
  });
});

describe('two owners start the same name in the same instant', () => {
  const ROUNDS = Number(process.env.ALLY_RACES ?? 100);

  async function racing() {
    const owners = [0, 1].map(() => world.owner('../faults/races.js', { config: config() }, { ipc: true }));
    await Promise.all(owners.map((owner) => owner.says('ready')));
    return owners;
  }

  async function race(owners) {
    // Both spin until this moment.
    const at = performance.timeOrigin + performance.now() + 8;
    const outcomes = await Promise.all(owners.map((owner) => owner.asks('start', at)));
    return { outcomes, winner: outcomes.findIndex(({ value }) => value && !value.code) };
  }

  test(
    `${ROUNDS} times: one has it each time`,
    async () => {
      const owners = await racing();
      const wins = [0, 0];
      for (let round = 0; round < ROUNDS; round++) {
        const { winner, outcomes } = await race(owners);
        const loser = 1 - winner;
        const { pid } = outcomes[winner].value;
        expect({ round, loser: outcomes[loser].value }).toEqual({ round, loser: { code: 'ERR_OWNED_ELSEWHERE', pid: expect.any(Number) } });
        expect({ round, file: fs.readFileSync(world.pidFile('plugin'), 'utf8') }).toEqual({ round, file: `${pid}\n` });
        if (round % 20 === 0)
          expect(
            mentioning(world.dir)
              .filter((found) => !owners.some((owner) => owner.pid === found.pid))
              .map((found) => found.pid),
          ).toEqual([pid]);
        wins[winner]++;
        expect({ round, stop: await owners[winner].asks('stop') }).toEqual({ round, stop: { value: 'stopped' } });
      }
      // Otherwise they did not race.
      expect(Math.min(...wins)).toBeGreaterThan(0);
      if (ROUNDS > 100) console.log(`won ${wins[0]} to ${wins[1]}`);
    },
    20_000 + ROUNDS * 200,
  );

  testWith('strace')('and the other one is told by whom it is owned', async () => {
    const [former, next] = [obedient(), obedient()];
    await goesOn(former);
    await goesOn(next, 'warm');
    // Half a second between the lock and its note.
    const fault = await inject(world, await thread(next), ['ftruncate:delay_enter=500000:when=1']);
    const start = next.asks('startProcess', config());
    const { ino } = fs.statSync(path.join(world.folder('plugin'), 'daemon.lock'));
    await until(() => fs.readFileSync('/proc/locks', 'utf8').includes(`:${ino} `));
    const { error } = await former.asks('startProcess', config());
    expect(await start).toEqual({});
    await fault.stop();
    expect(error).toMatchObject({ code: 'ERR_OWNED_ELSEWHERE', pid: next.pid });
  });
});
