// SIGKILL of a daemon → the 'exit' event, and the getter.

import { now } from '../lib/clock.mjs';
import { until } from '../../__tests__/helpers/until.js';
import * as byhand from '../lib/byhand.mjs';
import { assert } from '../lib/trial.mjs';

export default {
  name: 'exit',
  title: 'kill -9 → seen',
  rounds: { quick: 2, full: 6 },
  contestants: { ally: 'ally', watched: 'ally, events and logger', byhand: "child_process, 'exit'" },
  metrics: { event: { label: 'event', unit: 'ms' }, getter: { label: 'isRunning is false', unit: 'ms' } },

  async run(trial, contestant) {
    const kills = trial.quick ? 10 : 25;
    return contestant === 'byhand' ? handmade(trial, kills) : managed(trial, kills, contestant === 'watched');
  },
};

async function managed(trial, kills, watched) {
  const manager = trial.manager({ watched });
  const samples = { event: [], getter: [] };
  const config = trial.config('d', { restart: { maxAttempts: 0 } });
  for (let index = 0; index < kills * 2; index++) {
    await manager.startProcess(config);
    const seen = new Promise((resolve) => manager.once('exit', (event) => resolve({ at: now(), event })));
    const killed = now();
    process.kill(manager.getPid('d'), 'SIGKILL');
    if (index % 2 === 0) {
      const { at, event } = await seen;
      samples.event.push(at - killed);
      assert(event.signal === 'SIGKILL' && event.reason === 'crashed', 'the event has signal and reason');
    } else {
      // Polls without a pause, so that only the getter counts.
      while (manager.isRunning('d')) await new Promise(setImmediate);
      samples.getter.push(now() - killed);
    }
    await until(() => manager.getState('d') === 'error', 30_000, 'without restarts a crash leads to ERROR');
  }
  await manager.stopAllProcesses();
  return samples;
}

async function handmade(trial, kills) {
  const samples = { event: [] };
  for (let index = 0; index < kills; index++) {
    const name = `d${index}`;
    const child = byhand.start(trial, name);
    await trial.stamped(name, 'listen');
    const seen = byhand.ended(child).then(now);
    const killed = now();
    child.kill('SIGKILL');
    samples.event.push((await seen) - killed);
  }
  return samples;
}
