'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { stat, zombies } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, processesBeside, descriptorCount, supervisorThread, endGuardian } =
  useCommandedOwner(world);

const CASES = [
  // call, errno, the ordinal numbers of the calls that fail in turn during a start and a stop, changes of the configuration
  ['openat', 'EMFILE', [1, 2, 4, 5, 8, 9]],
  ['mkdirat', 'ENOSPC', [1]],
  ['newfstatat', 'EIO', [1, 2, 3, 4, 5, 6, 7, 8]],
  ['flock', 'ENOLCK', [1]],
  ['ftruncate', 'EIO', [1]],
  ['socketpair', 'EMFILE', [1]],
  ['pipe2', 'EMFILE', [1, 2]],
  ['fcntl', 'EMFILE', [1, 2, 3, 4, 5]],
  ['epoll_ctl', 'ENOSPC', [1, 2, 3]],
  ['sendmsg', 'ETOOMANYREFS', [1]],
  ['socket', 'EMFILE', [1, 2]],
  // Netlink: the kernel's list of listening sockets.
  ['sendto', 'ENOBUFS', [1, 2]],
  ['recvfrom', 'ENOBUFS', [1, 2]],
  ['connect', 'EAGAIN', [1, 2], { readiness: { type: 'socket' } }],
  ['inotify_add_watch', 'ENOSPC', [1]],
  ['renameat', 'ENOSPC', [1, 2]],
  ['unlinkat', 'EIO', [1, 2, 3, 4, 5, 6]],
];

/** For each ordinal number: the start fails with the errno's name and leaves nothing, or works and has correct records. */
async function sweep(owner, call, errno, turns, { file, prepare = () => {}, changes } = {}) {
  await expectStartAndStop(owner);
  const before = await descriptorCount(owner);
  let injected = 0;
  for (const turn of turns) {
    const here = `${call} ${turn}`;
    await prepare();
    const fault = await inject(world, await supervisorThread(owner), [`${call}:error=${errno}:when=${turn}`], { file });
    const { error } = await owner.asks('startProcess', config('plugin', ['serves.py'], changes));
    const { value: state } = await owner.asks('getState', 'plugin');
    if (error) {
      expect({ here, state, error }).toEqual({
        here,
        state: 'error',
        error: { ...errorWith('', errno), code: expect.stringMatching(/^ERR_(IO|SPAWN)$/) },
      });
      expect({ here, left: processesBeside(owner) }).toEqual({ here, left: [] });
    } else {
      const { value: pid } = await owner.asks('getPid', 'plugin');
      const files = ['daemon.pid', 'daemon.id', 'daemon.lock'].map(
        (name) =>
          fs.existsSync(path.join(world.folder('plugin'), name)) && fs.readFileSync(path.join(world.folder('plugin'), name), 'utf8'),
      );
      const { start } = stat(pid);
      expect({ here, state, files }).toEqual({
        here,
        state: 'running',
        files: [
          `${pid}\n`,
          expect.stringMatching(`^ally-daemon 1\npid ${pid}\nstart ${start}\nboot [0-9a-f-]+ pid:`),
          expect.stringMatching(`^owner ${owner.pid} ${stat(owner.pid).start} `),
        ],
      });
    }
    expect({ here, stop: await owner.asks('stopProcess', 'plugin') }).toEqual({ here, stop: {} });
    expect({ here, left: processesBeside(owner) }).toEqual({ here, left: [] });
    await fault.stop();
    injected += fault.injected();
    await expectStartAndStop(owner);
  }
  // The number of calls may depend on whether owner or daemon is faster; at least one is made.
  expect({ call, injected: injected > 0 }).toEqual({ call, injected: true });
  await until(async () => (await descriptorCount(owner)) <= before, 5_000, 'no descriptor is lost');
  await until(() => zombies(owner.pid).length === 0, 2_000, 'no zombie is left');
}

testWith('strace').each(CASES.map(([call, errno, turns, changes = {}]) => [call, errno, turns, changes]))(
  'supervisor: a start and a stop survive %s failing with %s',
  async (call, errno, turns, changes) => {
    await sweep(commandedOwner(), call, errno, turns, { changes });
  },
);

testWith('strace').each([
  ['socketpair', 'EMFILE', [2], null],
  ['openat', 'EMFILE', [1, 2], '/dev/null'],
  ['clone,clone3', 'EAGAIN', [1], null],
])('supervisor: a start and a stop survive %s failing with %s while the guardian is spawned', async (call, errno, turns, file) => {
  const owner = commandedOwner();
  await sweep(owner, call, errno, turns, { file, prepare: () => endGuardian(owner) });
});

testWith('strace').each([
  // The owner's start time, for its note in the lock.
  ['openat', 'EMFILE', [2], null],
  // The leader's start time and the boot id, for daemon.id.
  ['openat', 'EMFILE', [6], null],
  ['openat', 'EMFILE', [7], null],
  // The pid namespace of /proc, and that of the owner.
  ['readlink', 'EACCES', [1], null],
  ['readlink', 'EACCES', [2], null],
])('supervisor: a start and a stop survive %s failing with %s where an identity is read: %j', async (call, errno, turns, file) => {
  await sweep(commandedOwner(), call, errno, turns, { file });
});

testWith('strace')('supervisor: epoll_ctl failing with ENOSPC while the guardian is spawned leaves no zombie', async () => {
  const owner = commandedOwner();
  await expectStartAndStop(owner);
  let refused = 0;
  // Which of these calls is for the guardian depends on what else is unregistered.
  for (let turn = 4; turn <= 8; turn++) {
    await endGuardian(owner);
    const fault = await inject(world, await supervisorThread(owner), [`epoll_ctl:error=ENOSPC:when=${turn}`]);
    const { error } = await owner.asks('startProcess', config());
    if (error) {
      expect(error).toEqual(errorWith('ERR_SPAWN', 'guardian', 'ENOSPC'));
      refused++;
    }
    await owner.asks('stopProcess', 'plugin');
    await fault.stop();
    await until(() => zombies(owner.pid).length === 0, 1_000, 'no zombie is left');
    await expectStartAndStop(owner);
  }
  expect(refused).toBeGreaterThan(0);
});
