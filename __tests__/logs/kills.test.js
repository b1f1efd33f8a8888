'use strict';

// The log of a daemon whose owner is killed at random moments, again and again: every line once, in order.
// ALLY_KILLS=200 kills as often as that.

const fs = require('node:fs');
const { everyProcess } = require('../helpers/proc');
const { testOnLinux } = require('../helpers/needs');
const { sleep, until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { countLines } = require('./numbered');

const KILLS = Number(process.env.ALLY_KILLS ?? 12);
const world = useWorld();

testOnLinux(
  'logs.file: no byte is lost or doubled when the owner is killed at random moments',
  async () => {
    const marker = world.path('count');
    const file = world.path('plugin.log');
    const logs = { file, maxSize: 2_000_000, maxFiles: 1_000, compress: true };
    const config = world.config('plugin', ['prints-numbered-lines.py', marker], { logs, shutdownGracePeriod: 2_000 });
    const pids = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const options = { onOwnerDeath: kill % 4 === 3 ? 'keep' : 'stop' };
      const owner = world.owner('starts-and-ends.js', { options, configs: [config], end: 'wait' });
      pids.push((await owner.says('ready')).plugin);
      await sleep(Math.random() * 40);
      owner.child.kill('SIGKILL');
      await owner.exited;
    }
    // The last daemon may be kept: a start stops it.
    const manager = world.manager();
    await manager.startProcess(config);
    pids.push(manager.getPid('plugin'));
    await manager.stopProcess('plugin');
    await until(() => !everyProcess().some(({ name, ppid }) => name === 'ally-log' && ppid === 1), 15_000, 'the log processes end');
    const counts = countLines(file);
    const printed = (pid) => Number(fs.readFileSync(`${marker}.${pid}`, 'utf8'));
    for (const pid of pids)
      expect([pid, counts.get(`${pid} out count`), counts.get(`${pid} err count`)]).toEqual([pid, printed(pid), printed(pid)]);
  },
  10_000 + KILLS * 5_000,
);
