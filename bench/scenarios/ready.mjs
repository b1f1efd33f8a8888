// From the daemon's listen(2) to the resolved start.

import { spawn } from 'node:child_process';
import { now } from '../lib/clock.mjs';
import * as byhand from '../lib/byhand.mjs';
import { assert } from '../lib/trial.mjs';

export default {
  name: 'ready',
  title: 'Daemon listens → start resolved',
  rounds: { quick: 3, full: 8 },
  contestants: {
    ally: 'ally',
    watched: 'ally, events and logger',
    byhand: 'child_process, connect every 10 ms',
    limit: 'physical limit: connect without a pause',
  },
  metrics: { resolved: { label: 'listen → resolved', unit: 'ms' }, start: { label: 'call → resolved', unit: 'ms' } },

  async run(trial, contestant) {
    const starts = trial.quick ? 10 : 25;
    const samples = { resolved: [], start: [] };
    const { one, end } = contestants[contestant](trial);
    for (let index = 0; index < starts; index++) {
      const name = `d${index}`;
      const called = now();
      const resolved = await one(name);
      const { at } = await trial.stamped(name, 'listen');
      samples.resolved.push(resolved - at);
      samples.start.push(resolved - called);
    }
    await end();
    return samples;
  },
};

const contestants = { ally: (trial) => managed(trial, false), watched: (trial) => managed(trial, true), byhand: handmade, limit };

function managed(trial, watched) {
  const manager = trial.manager({ watched });
  const names = [];
  return {
    async one(name) {
      names.push(name);
      await manager.startProcess(trial.config(name));
      const resolved = now();
      assert(manager.isRunning(name), `${name} runs`);
      return resolved;
    },
    async end() {
      assert(
        names.every((name) => manager.isRunning(name)),
        'all of them still run',
      );
      await manager.stopAllProcesses();
      if (watched) assert(manager.received.events >= names.length * 4, 'every state was an event');
    },
  };
}

function handmade(trial) {
  const children = [];
  return {
    async one(name) {
      children.push(byhand.start(trial, name));
      await byhand.answers(trial.place(name).socket);
      return now();
    },
    end: () => Promise.all(children.map(byhand.stop)),
  };
}

function limit(trial) {
  const children = [];
  return {
    async one(name) {
      const dialer = spawn(trial.daemon, ['--dial'], {
        env: { ...trial.env(name), BENCH_STAMP: `${trial.place(name).stamps}.dial` },
        stdio: 'ignore',
      });
      children.push(byhand.start(trial, name));
      await byhand.ended(dialer);
      return (await trial.stamped(name, 'connected', 1, '.dial')).at;
    },
    end: () => Promise.all(children.map(byhand.stop)),
  };
}
