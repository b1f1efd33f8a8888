'use strict';

const { testOnLinux } = require('../helpers/needs');
const { alive, children, identify, killTogether, living, signal } = require('../helpers/proc');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, host, hostGone } = useSessions(world);

/** The guardian of the host, and its keepers. */
function helpersOfHost() {
  const guardian = children(host().pid)
    .map(({ pid }) => identify(pid))
    .find(({ pid }) => living(pid)?.name === 'ally-guardian');
  return { guardian, keepers: children(guardian.pid).map(({ pid }) => identify(pid)) };
}

/** Two sessions that have two daemons, and what came of their daemons after `kill`. */
async function afterKill(kill) {
  const managers = [world.manager(), world.manager()];
  const restart = { delay: 10, maxAttempts: 3 };
  const configs = ['one', 'two'].map((name) => shared(name, ['serves.py'], { restart }));
  for (const manager of managers) for (const config of configs) await manager.startProcess(config);
  const before = configs.map(({ pluginName }) => identify(managers[0].getPid(pluginName)));
  await kill(helpersOfHost(), before);
  const isNew = ({ pluginName }, index) => managers.every((manager) => runsAnew(manager, pluginName, before[index].pid));
  await until(() => configs.every(isNew), 15_000, 'both daemons run again');
  expect(before.filter(alive)).toEqual([]);
  const after = configs.map(({ pluginName }) => identify(managers[0].getPid(pluginName)));
  for (const [index, { pluginName }] of configs.entries()) expect(managers[1].getPid(pluginName)).toBe(after[index].pid);
  for (const manager of managers) await manager.stopAllProcesses();
  for (const { pluginName } of configs) expectNothingLeft(world, pluginName, after);
  await hostGone();
}

testOnLinux('keepers of shared daemons killed: both daemons are restarted, and both sessions see them', () =>
  afterKill(({ keepers }) => {
    for (const keeper of keepers) signal(keeper, 'SIGKILL');
  }),
);

testOnLinux('guardian of the host killed: daemons go on, and what is killed afterwards is restarted by a new guardian', () =>
  afterKill(({ guardian }, daemons) => {
    signal(guardian, 'SIGKILL');
    for (const daemon of daemons) {
      expect(alive(daemon)).toBe(true);
      signal(daemon, 'SIGKILL');
    }
  }),
);

testOnLinux('host, guardian and keepers killed at once: the old daemons are gone, and another host runs new ones', () =>
  afterKill(({ guardian, keepers }) => killTogether([identify(host().pid), guardian, ...keepers])),
);

testOnLinux('host and daemons killed at once: another host runs new ones', () =>
  afterKill((_, daemons) => killTogether([identify(host().pid), ...daemons])),
);
