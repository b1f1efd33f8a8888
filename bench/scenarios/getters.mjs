// The time of a getter.

import { assert } from '../lib/trial.mjs';

const GETTERS = ['isRunning', 'getState', 'getPid', 'getProcessInfo'];
const DAEMONS = 20;

export default {
  name: 'getters',
  title: 'Getters, per call',
  rounds: { quick: 2, full: 5 },
  contestants: { ally: 'ally', limit: 'a JavaScript Map' },
  metrics: {
    ...Object.fromEntries(GETTERS.map((getter) => [getter, { label: getter, unit: 'ns' }])),
    get: { label: 'Map.get', unit: 'ns' },
  },

  async run(trial, contestant) {
    const names = Array.from({ length: DAEMONS }, (_, index) => `plugin-${index}`);
    if (contestant === 'limit') {
      const map = new Map(names.map((name) => [name, { state: 'running' }]));
      return { get: time(names, (name) => map.get(name).state === 'running') };
    }
    const manager = trial.manager();
    await Promise.all(names.map((name) => manager.startProcess(trial.config(name))));
    const samples = {};
    for (const getter of GETTERS) {
      assert(
        names.every((name) => manager[getter](name)),
        `${getter} answers`,
      );
      samples[getter] = time(names, (name) => manager[getter](name));
    }
    await manager.stopAllProcesses();
    return samples;
  },
};

/** Nanoseconds per call, several samples. */
function time(names, call) {
  const calls = 20_000;
  const samples = [];
  let answers = 0;
  for (let round = 0; round < 12; round++) {
    const begun = performance.now();
    for (let index = 0; index < calls; index++) if (call(names[index % DAEMONS])) answers++;
    samples.push(((performance.now() - begun) * 1e6) / calls);
  }
  assert(answers === 12 * calls, 'every call answered');
  // The code is compiled during the first rounds.
  return samples.slice(2);
}
