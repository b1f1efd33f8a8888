'use strict';

const { testOnLinux, testWith } = require('../helpers/needs');
const { signals, threadName, threads } = require('../helpers/proc');
const { useWorld } = require('../helpers/use-world');
const { useProgram } = require('./program');

const world = useWorld();
const { expectAsBefore, named, live } = useProgram(world);

testOnLinux('threads and children: none before the first start, and no child after the last daemon', async () => {
  const owner = world.owner('counts-threads-and-children.js', { configs: ['a', 'b', 'c'].map((name) => world.config(name)) });
  expect(await owner.says('idle')).toEqual({ threads: 0, children: [] });
  expect((await owner.says('running')).children).toHaveLength(1);
  const after = await owner.says('after');
  expect(after.children).toEqual([]);
  expect(after.took).toBeLessThan(1_500);
  expect(await owner.says('again')).toBe(true);
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  expect(owner.errors).toBe('');
});

testOnLinux('supervisor thread: blocks every signal', async () => {
  await world.manager().startProcess(world.config());
  const supervisors = threads(process.pid).filter((tid) => threadName(process.pid, tid) === 'ally-bpm');
  expect(supervisors).toHaveLength(1);
  const blocked = signals(process.pid, 'SigBlk', supervisors[0]);
  const open = Array.from({ length: 64 }, (_, index) => index + 1).filter((number) => !((blocked >> BigInt(number - 1)) & 1n));
  // SIGKILL and SIGSTOP cannot be blocked; 32 and 33 belong to the C library.
  expect(open.filter((number) => number !== 32 && number !== 33)).toEqual([9, 19]);
});

testWith('a pid namespace')('PID 1: a whole tree stops, and the stop does not wait for zombies', async () => {
  const marker = world.path('family');
  const began = performance.now();
  const owner = world.owner(
    'starts-and-ends.js',
    {
      configs: [world.config('plugin', ['leads-a-tree.py', marker, 'stubborn', 'fled'], { shutdownGracePeriod: 300 })],
      end: 'stop',
    },
    { before: ['unshare', '-pf', '--mount-proc'] },
  );
  await owner.says('ready');
  expect(await owner.says('stopped')).toBe(true);
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  expect(performance.now() - began).toBeLessThan(10_000);
});

testWith('a pid namespace')('PID 1: restarts and stops leave no process and no zombie', async () => {
  const { report } = await live(
    'first',
    { configs: named('plugin', 2), times: 15 },
    { before: ['unshare', '-pf', '--mount-proc', '--kill-child'] },
  );
  expect(report.pid).toBe(1);
  expect(report.restarts).toBe(15);
  expectAsBefore(report.after, report.before);
  expect(report.end.zombies).toBe(0);
  expect(report.others).toEqual([]);
});

testOnLinux(
  'leaks: 500 starts and stops leave descriptors, threads, zombies and memory as before',
  async () => {
    // A small young generation that is collected at once; otherwise its size varies by several MB.
    const flags = ['--expose-gc', '--single-threaded-gc', '--max-semi-space-size=1'];
    const { before, parts } = await live('cycles', { configs: named('plugin', 2), warm: 150, times: 252, lifetime: 170_000 }, { flags });
    expectAsBefore(parts.at(-1), before);
    // In kB: less than 5 a start. V8's compilers take their memory in the first cycles, and on a busy machine later too; what each start
    // leaks shows in each quarter.
    const growth = parts.map(({ memory }, index) => memory - (parts[index - 1] ?? before).memory);
    expect(Math.min(...growth)).toBeLessThan(630);
  },
  // 800 starts and stops.
  180_000,
);
