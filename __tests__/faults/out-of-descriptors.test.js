'use strict';

const fs = require('node:fs');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { testWith } = require('../helpers/needs');
const { alive, identify, signal } = require('../helpers/proc');
const { inject } = require('../helpers/strace');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, expectStartAndStop, processesBeside, supervisorThread } = useCommandedOwner(world);

const few = ['prlimit', '--nofile=96:96'];

testWith('root').each([
  ['warm', true],
  ['cold', false],
])('EMFILE: a start works or says so, with any number of free descriptors: %s', async (_, warm) => {
  const owner = commandedOwner({}, { before: few });
  if (warm) await expectStartAndStop(owner);
  let works = 0;
  for (let free = 0; works < 2; free++) {
    expect(free).toBeLessThan(40);
    const {
      value: { error, state },
    } = await owner.asks('startWith', free, config());
    if (error) {
      // Without the supervisor's thread the plugin stays unknown.
      expect(['error', ...(warm ? [] : [undefined])]).toContain(state);
      expect({ free, error }).toEqual({ free, error: { ...errorWith('', 'EMFILE'), code: expect.stringMatching(/^ERR_(IO|SPAWN)$/) } });
      expect({ free, left: processesBeside(owner) }).toEqual({ free, left: [] });
    } else {
      works++;
      const { value: pid } = await owner.asks('getPid', 'plugin');
      expect({ free, pid: fs.readFileSync(world.pidFile('plugin'), 'utf8') }).toEqual({ free, pid: `${pid}\n` });
    }
    expect({ free, stop: await owner.asks('stopProcess', 'plugin') }).toEqual({ free, stop: {} });
  }
  await expectStartAndStop(owner);
});

testWith('strace')('EMFILE: a healthy daemon is not restarted because its owner has no descriptor', async () => {
  const owner = commandedOwner();
  expect(
    await owner.asks(
      'startProcess',
      config('plugin', ['serves.py'], {
        healthcheck: { interval: 20, timeout: 200, retries: 2 },
        restart: { delay: 0 },
      }),
    ),
  ).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  const fault = await inject(world, await supervisorThread(owner), ['socket:error=EMFILE']);
  await until(() => fault.injected() >= 6 || !alive(daemon));
  await fault.stop();
  await owner.asks('reached', 'plugin', 'running');
  expect(alive(daemon)).toBe(true);
});

testWith('strace').each([
  // Or for the question about the connection of a check that was under way, which is kept.
  ['the connection', 'AF_', 'socket:error=EMFILE'],
  // Every second socket: the connection is made, and the netlink socket is not.
  ['the question whether it was taken', 'AF_NETLINK', 'socket:error=EMFILE:when=2+2'],
])('EMFILE: a check with probe accept waits for a descriptor for %s and goes on', async (_, family, injection) => {
  const owner = commandedOwner({ logged: true });
  expect(
    await owner.asks(
      'startProcess',
      config('plugin', ['sends-nothing.py'], {
        healthcheck: { interval: 20, timeout: 500, retries: 2, probe: { type: 'accept' } },
        restart: { delay: 0 },
      }),
    ),
  ).toEqual({});
  const daemon = identify((await owner.asks('getPid', 'plugin')).value);
  const fault = await inject(world, await supervisorThread(owner), [injection]);
  const failed = () => fault.calls().filter((line) => line.includes('(INJECTED)') && line.includes(family)).length;
  await until(() => failed() >= 6 || !alive(daemon));
  expect(alive(daemon)).toBe(true);
  expect((await owner.asks('getProcessInfo', 'plugin')).value).toMatchObject({
    state: 'running',
    failedHealthChecks: 0,
    totalRestarts: 0,
  });
  await fault.stop();
  // One check, tried repeatedly, and one warning.
  expect((await owner.asks('records')).value.filter((line) => line.includes("can't be made"))).toHaveLength(1);
  // The checks go on and find the stopped daemon.
  signal(daemon, 'SIGSTOP');
  await until(() => !alive(daemon));
  await owner.asks('reached', 'plugin', 'running');
});
