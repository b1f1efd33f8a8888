'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { copyPackage } = require('../helpers/package-copy');
const { alive, children, descriptors, identify, signal, zombies } = require('../helpers/proc');
const { PYTHON } = require('../helpers/python');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, processesBeside, supervisorThread, guardianOf, endGuardian } = useCommandedOwner(world);

const replaceByFolder = (file) => {
  fs.rmSync(file);
  fs.mkdirSync(file);
};

/** The beginning of an ELF file for aarch64, e_machine 183. */
const FOREIGN = Buffer.concat([
  Buffer.from('\x7fELF\x02\x01\x01', 'latin1'),
  Buffer.alloc(9),
  Buffer.from([2, 0, 183, 0, 1, 0, 0, 0]),
  Buffer.alloc(40),
]);

/** What is wrong with the program, the code, and what the message says behind the path of the program. */
const broken = {
  'is missing': [(file) => fs.rmSync(file), 'ERR_UNSUPPORTED', "can't be started: ENOENT"],
  'may not be run': [(file) => fs.chmodSync(file, 0o644), 'ERR_UNSUPPORTED', "can't be started: EACCES"],
  'is a folder': [replaceByFolder, 'ERR_UNSUPPORTED', "can't be started: EACCES"],
  'is no program': [(file) => fs.writeFileSync(file, 'no program\n'), 'ERR_UNSUPPORTED', "can't be started: ENOEXEC"],
  'is empty': [(file) => fs.writeFileSync(file, ''), 'ERR_UNSUPPORTED', "can't be started: ENOEXEC"],
  'is of another architecture': [
    (file) => fs.writeFileSync(file, FOREIGN),
    'ERR_UNSUPPORTED',
    "can't be started: ENOEXEC",
    'built for another machine, aarch64',
  ],
  'ends at once': [(file) => fs.writeFileSync(file, '#!/bin/sh\nexit 0\n'), 'ERR_INTERNAL', 'exited with code 0'],
  'ends with code 127': [(file) => fs.writeFileSync(file, '#!/bin/sh\nexit 127\n'), 'ERR_INTERNAL', 'exited with code 127'],
  'ends after a while': [
    (file) => fs.writeFileSync(file, '#!/bin/sh\nread -r x; sleep 0.3; exit 5\n'),
    'ERR_INTERNAL',
    'exited with code 5',
  ],
  'is killed at once': [(file) => fs.writeFileSync(file, '#!/bin/sh\nkill -KILL $$\n'), 'ERR_INTERNAL', 'was killed by SIGKILL'],
  'closes its stream': [(file) => fs.writeFileSync(file, '#!/bin/sh\nexec sleep 60 <&-\n'), 'ERR_INTERNAL', 'closed its stream'],
  'sends other bytes': [
    (file) => fs.writeFileSync(file, '#!/bin/sh\necho hello >&0\nexec sleep 60\n'),
    'ERR_INTERNAL',
    'sent bytes that are no message of its build',
  ],
};

/** These programs do not end at once. One that was spawned as a replacement may live when the start has failed. */
const LINGERING = ['ends after a while', 'closes its stream', 'sends other bytes'];

/** answers-garbage.py in the place of the guardian, until `mend`. */
function withGarbageGuardian() {
  const { copy, guardian } = copyPackage(world);
  const kept = `${guardian}.kept`;
  fs.renameSync(guardian, kept);
  const program = path.join(__dirname, '..', 'fixtures', 'guardians', 'answers-garbage.py');
  fs.writeFileSync(guardian, `#!/bin/sh\nexec '${PYTHON}' -S -E -B '${program}'\n`, { mode: 0o755 });
  const owner = commandedOwner({ package: copy });
  /** Orders that were not carried out then go to the real guardian. */
  const mend = async () => {
    fs.renameSync(kept, guardian);
    for (const child of children(owner.pid)) signal(child, 'SIGKILL');
  };
  return { owner, mend };
}

test.each(Object.keys(broken))('guardian program: %s: the error says so, and a start works once it is mended', async (how) => {
  const { copy, guardian } = copyPackage(world);
  const kept = `${guardian}.kept`;
  fs.copyFileSync(guardian, kept);
  const owner = commandedOwner({ package: copy });
  const [harm, code, ...says] = broken[how];
  harm(guardian);
  for (let time = 0; time < 2; time++) {
    const { error } = await owner.asks('startProcess', config());
    expect(error).toEqual(errorWith(code, guardian, ...says));
    expect(error.message).not.toMatch(/broken pipe|while it made/i);
    expect((await owner.asks('getState', 'plugin')).value).toBe('error');
    if (LINGERING.includes(how)) await until(() => processesBeside(owner).length === 0, 5_000, 'no guardian is left');
    expect(processesBeside(owner)).toEqual([]);
  }
  await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
  fs.rmSync(guardian, { recursive: true, force: true });
  fs.renameSync(kept, guardian);
  await expectStartAndStop(owner);
});

// A large order is still being written when the guardian has exited.
test.each([
  ['a small order', []],
  ['an order of 400 KB', Array(4).fill('x'.repeat(100_000))],
])('guardian program: of another build: ERR_UNSUPPORTED names its path and both versions: %s', async (_, args) => {
  const { copy, guardian } = copyPackage(world);
  const kept = `${guardian}.kept`;
  fs.renameSync(guardian, kept);
  const program = path.join(__dirname, '..', 'fixtures', 'guardians', 'greets-as-another-build.py');
  fs.writeFileSync(guardian, `#!/bin/sh\nexec '${PYTHON}' -S -E -B '${program}'\n`, { mode: 0o755 });
  const owner = commandedOwner({ package: copy });
  const { error } = await owner.asks('startProcess', config('plugin', ['serves.py', ...args]));
  expect(error).toEqual(errorWith('ERR_UNSUPPORTED', guardian, 'another build', '9.9.9 another', '0.1.0'));
  await until(() => processesBeside(owner).length === 0, 5_000, 'the other guardian has ended');
  fs.renameSync(kept, guardian);
  await expectStartAndStop(owner);
});

test('guardian program: exits again and again: the respawn delay doubles from 200 ms', async () => {
  const { copy, guardian } = copyPackage(world);
  const kept = `${guardian}.kept`;
  const owner = commandedOwner({ package: copy });
  expect(await owner.asks('startProcess', config())).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  const real = await guardianOf(owner);
  // Each guardian leaves a file with its start as mtime, without running another program: its life must be short.
  fs.mkdirSync(world.path('lives'));
  fs.renameSync(guardian, kept);
  fs.writeFileSync(guardian, `#!/bin/sh\n: >'${world.path('lives')}'/$$\n`, { mode: 0o755 });
  const lives = () =>
    fs
      .readdirSync(world.path('lives'))
      .map((name) => fs.statSync(world.path('lives', name)).mtimeMs)
      .sort((a, b) => a - b);
  signal(real, 'SIGKILL');
  // The delay doubles from 200 ms; mtime has a resolution of 10 ms at worst. A guardian that a busy machine ran late
  // did not live shortly, and the delay begins anew.
  await until(() => {
    const gaps = lives().map((time, index, all) => time - all[index - 1]);
    return gaps.some((_, index) => [200, 400, 800].every((pause, later) => gaps[index + later] >= pause - 10));
  });
  expect(lives().length).toBeLessThan(15);
  expect(alive(daemon)).toBe(true);

  // A start does not wait for that delay, and makes fewer than ten attempts.
  const before = lives().length;
  expect((await owner.asks('startProcess', config('other'))).error).toMatchObject({
    code: 'ERR_INTERNAL',
    message: expect.stringContaining('guardian'),
  });
  expect(lives().length - before).toBeLessThan(10);
  expect((await owner.asks('getState', 'plugin')).value).toBe('running');
  fs.renameSync(kept, guardian);
  await expectStartAndStop(owner, 'other');
  expect(alive(daemon)).toBe(true);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
  await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
});

test('guardian: after restarts whose orders were lost, the next attempt and an upgrade are heard', async () => {
  const { copy, guardian } = copyPackage(world);
  const kept = `${guardian}.kept`;
  const owner = commandedOwner({ package: copy });
  const restart = { delay: 20, maxDelay: 20, jitter: 0, maxAttempts: 1_000, window: { limit: 1_000, period: 60_000 } };
  expect(await owner.asks('startProcess', config('plugin', ['serves.py'], { restart }))).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  const info = async () => (await owner.asks('getProcessInfo', 'plugin')).value;
  const real = await guardianOf(owner);
  fs.renameSync(guardian, kept);
  fs.writeFileSync(guardian, '#!/bin/sh\nkill -KILL $$\n', { mode: 0o755 });
  signal(real, 'SIGKILL');
  signal(daemon, 'SIGKILL');
  await until(async () => (await info()).restartAttempts >= 4, 20_000, 'orders were lost');
  fs.renameSync(kept, guardian);
  await until(async () => (await info()).state === 'running', 10_000, 'the next attempt is heard');
  expect(await owner.asks('upgradeProcess', 'plugin', { envVars: { TEST_WORLD: world.dir, NEXT: '1' } })).toEqual({});
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
});

testWith('strace')('guardian: has descriptors 0 to 2 only, also where close_range is unknown (ENOSYS)', async () => {
  // A high number: Node sets close-on-exec on the low ones itself.
  const owner = commandedOwner({}, { before: ['bash', '-c', 'exec 200</dev/null; exec "$@"', 'bash'] });
  await expectStartAndStop(owner);
  await endGuardian(owner);
  const open = (pid) => descriptors(pid).sort();
  expect(open(owner.pid)).toContain('200');
  const fault = await inject(world, await supervisorThread(owner), ['close_range:error=ENOSYS'], { follow: 'programs' });
  expect(await owner.asks('startProcess', config())).toEqual({});
  const guardian = await guardianOf(owner);
  // The guardian closes the descriptors that it has passed on.
  await until(() => open(guardian.pid).join() === '0,1,2');
  const daemon = (await owner.asks('getPid', 'plugin')).value;
  expect(open(daemon)).not.toContain('200');
  await fault.stop();
  expect(fault.injected()).toBeGreaterThan(0);
  expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
});

test('guardian: killed three times in a row during one start: ERR_INTERNAL says how it ended', async () => {
  const { copy, guardian } = copyPackage(world);
  fs.renameSync(guardian, `${guardian}.kept`);
  fs.writeFileSync(guardian, `#!/bin/sh\n: >'${world.path('life')}'.$$\nkill -KILL $$\n`, { mode: 0o755 });
  const owner = commandedOwner({ package: copy });
  const { error } = await owner.asks('startProcess', config());
  expect(error).toEqual(errorWith('ERR_INTERNAL', `the guardian ${guardian} was killed by SIGKILL`));
  // One that is slow to start, on a busy machine, is replaced before it writes.
  expect(fs.readdirSync(world.dir).filter((name) => name.startsWith('life.')).length).toBeGreaterThanOrEqual(2);
});

test('guardian program: answers that are garbage are not believed and not waited for', async () => {
  const { owner, mend } = withGarbageGuardian();
  // One order each: answers-garbage.py answers by their number.
  const names = Array.from({ length: 24 }, (_, index) => `plugin-${index}`);
  const outcomes = await Promise.all(
    names.map((name) => owner.asks('startProcess', config(name, ['serves.py'], { startupTimeout: 400, shutdownGracePeriod: 50 }))),
  );
  const codes = outcomes.map(({ error }) => error?.code ?? 'resolved');
  // To some orders the guardian never answers.
  expect(codes).toContain('ERR_STARTUP_TIMEOUT');
  expect(codes.filter((code) => !/^ERR_(INTERNAL|SPAWN|STARTUP_EXIT|STARTUP_TIMEOUT|IO)$/.test(code))).toEqual([]);
  await mend();
  expect(await Promise.all(names.map((name) => owner.asks('stopProcess', name)))).toEqual(names.map(() => ({})));
  expect(processesBeside(owner)).toEqual([]);
  await expectStartAndStop(owner);
});
