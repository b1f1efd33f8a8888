// The time of a start on the JavaScript thread: from the call to its return.

import { fill } from '../lib/loop.mjs';
import * as byhand from '../lib/byhand.mjs';

export default {
  name: 'call',
  title: 'Call → return, on the JavaScript thread',
  rounds: { quick: 2, full: 5 },
  contestants: { ally: 'ally', watched: 'ally, events and logger', byhand: 'child_process.spawn', execa: 'execa' },
  metrics: { call: { label: 'small heap', unit: 'µs' }, heavy: { label: '1 GiB of heap', unit: 'µs' } },

  async run(trial, contestant) {
    const starts = trial.quick ? 10 : 30;
    const { call, ready, end } = await contestants[contestant](trial);
    let count = 0;
    const measure = async () => {
      const samples = [];
      for (let index = 0; index < starts; index++) {
        const name = `d${count++}`;
        const argument = trial.config(name);
        const begun = performance.now();
        const pending = call(name, argument);
        samples.push((performance.now() - begun) * 1e3);
        await ready(name, pending);
      }
      // The first call loads and compiles code, so it is left out.
      return count === starts ? samples.slice(1) : samples;
    };
    const light = await measure();
    const heap = fill(2 ** 30);
    const heavy = await measure();
    await end();
    return { call: light, heavy: heap.length > 0 ? heavy : [] };
  },
};

const contestants = {
  ally: (trial) => managed(trial, false),
  watched: (trial) => managed(trial, true),
  byhand: (trial) => spawned(trial, (name) => byhand.start(trial, name)),
  async execa(trial) {
    const start = await byhand.execa(trial);
    return spawned(trial, (name) => start(name));
  },
};

function managed(trial, watched) {
  const manager = trial.manager({ watched });
  return { call: (_, config) => manager.startProcess(config), ready: (_, pending) => pending, end: () => manager.stopAllProcesses() };
}

function spawned(trial, call) {
  const children = [];
  return {
    call,
    async ready(name, child) {
      children.push(child);
      await trial.stamped(name, 'listen');
    },
    end: () => Promise.all(children.map(byhand.stop)),
  };
}
