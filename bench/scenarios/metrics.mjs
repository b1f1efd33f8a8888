// The time of metricsText on the JavaScript thread.

import { assert } from '../lib/trial.mjs';

const DAEMONS = 200;

export default {
  name: 'metrics',
  title: `Metrics as text, ${DAEMONS} daemons`,
  rounds: { quick: 1, full: 3 },
  contestants: { ally: 'ally', limit: 'the same text from a buffer' },
  metrics: { text: { label: 'metricsText', unit: 'ms' }, copy: { label: 'a string from the bytes', unit: 'ms' } },

  async run(trial, contestant) {
    const names = Array.from({ length: DAEMONS }, (_, index) => `plugin-${index}`);
    const manager = trial.manager();
    const healthcheck = { interval: 1_000, timeout: 1_000, retries: 3 };
    await Promise.all(names.map((name) => manager.startProcess({ ...trial.config(name), healthcheck })));
    const text = manager.metricsText();
    assert(text.endsWith('# EOF\n') && text.includes('plugin-199'), 'the text has all daemons');
    const bytes = Buffer.from(text);
    const samples = time(contestant === 'limit' ? () => bytes.toString() : () => manager.metricsText());
    await manager.stopAllProcesses();
    return contestant === 'limit' ? { copy: samples } : { text: samples };
  },
};

/** Milliseconds per call, several samples. */
function time(call) {
  const samples = [];
  for (let round = 0; round < 22; round++) {
    const begun = performance.now();
    call();
    samples.push(performance.now() - begun);
  }
  // The code is compiled during the first rounds.
  return samples.slice(2);
}
