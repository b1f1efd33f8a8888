'use strict';

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { alive, ancestors, identify, signal, stat } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

/** Who has this pipe open. */
function holding(pipe) {
  const has = (pid) => {
    try {
      return fs.readdirSync(`/proc/${pid}/fd`).some((fd) => fs.readlinkSync(`/proc/${pid}/fd/${fd}`) === pipe);
    } catch {
      return false;
    }
  };
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && has(name))
    .map(Number);
}

const sessionOf = (pid) => Number(fs.readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').pop().split(' ')[3]);

testOnLinux("killMode 'group': who reads on for what is left alive has a session of its own", async () => {
  const manager = world.manager();
  const marker = world.path('family');
  await manager.startProcess(world.config('plugin', ['leads-a-tree.py', marker, 'fled'], { killMode: 'group', shutdownGracePeriod: 300 }));
  const leader = identify(manager.getPid('plugin'));
  const [keeper, guardian] = ancestors(leader.pid);
  const { fled } = await world.tree(marker);
  world.finally(() => signal(fled, 'SIGKILL'));
  const sessions = Object.fromEntries(
    Object.entries({ owner: process, guardian, keeper, leader, fled }).map(([who, { pid }]) => [who, sessionOf(pid)]),
  );
  const pipe = fs.readlinkSync(`/proc/${fled.pid}/fd/1`);

  await manager.stopProcess('plugin');
  // Until the keeper is gone it has the pipe as well, and is no reader.
  await until(() => !alive(keeper));
  const readers = holding(pipe).filter((pid) => pid !== process.pid && pid !== fled.pid);
  expect(readers).toHaveLength(1);
  expect(stat(readers[0]).ppid).toBe(guardian.pid);
  expect(Object.keys(sessions).filter((who) => sessions[who] === sessionOf(readers[0]))).toEqual([]);
  expect(sessionOf(readers[0])).toBe(readers[0]);
});
