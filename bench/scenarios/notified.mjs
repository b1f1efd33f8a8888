// From the daemon's READY=1 to the resolved start.

import { readFileSync } from 'node:fs';
import { now } from '../lib/clock.mjs';
import * as byhand from '../lib/byhand.mjs';
import { sleep } from '../../__tests__/helpers/until.js';

export default {
  name: 'notified',
  title: 'Daemon sends READY=1 → start resolved',
  rounds: { quick: 3, full: 8 },
  contestants: { ally: 'ally', byhand: 'child_process, a file of the daemon read every 10 ms', polled: 'the same every 500 ms' },
  metrics: { resolved: { label: 'READY=1 → resolved', unit: 'ms' } },

  async run(trial, contestant) {
    const starts = contestant === 'polled' ? 5 : 25;
    const { one, end } = contestants[contestant](trial);
    const samples = [];
    for (let index = 0; index < starts; index++) {
      const name = `d${index}`;
      const resolved = await one(name);
      samples.push(resolved - (await trial.stamped(name, 'ready')).at);
    }
    await end();
    return { resolved: samples };
  },
};

const contestants = { ally, byhand: (trial) => reading(trial, 10), polled: (trial) => reading(trial, 500) };

function ally(trial) {
  const manager = trial.manager();
  return {
    async one(name) {
      await manager.startProcess(trial.config(name, { args: ['--notify'], readiness: { type: 'notify' } }));
      return now();
    },
    end: () => manager.stopAllProcesses(),
  };
}

/** Node has no datagram sockets at a path, so its programs look for a file. */
function reading(trial, pause) {
  const children = [];
  const isReady = (file) => {
    try {
      return readFileSync(file, 'latin1').includes('ready');
    } catch {
      return false;
    }
  };
  return {
    async one(name) {
      children.push(byhand.start(trial, name, ['--notify']));
      while (!isReady(trial.place(name).stamps)) await sleep(pause);
      return now();
    },
    end: () => Promise.all(children.map(byhand.stop)),
  };
}
