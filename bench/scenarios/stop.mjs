// The stop of a daemon that exits on SIGTERM.

import { now } from '../lib/clock.mjs';
import * as byhand from '../lib/byhand.mjs';
import * as pm2 from '../lib/pm2.mjs';
import { descendants } from '../../__tests__/helpers/proc.js';
import { assert } from '../lib/trial.mjs';

export default {
  name: 'stop',
  title: 'Stop of a willing daemon',
  rounds: { quick: 2, full: 6 },
  contestants: {
    ally: 'ally',
    watched: 'ally, events and logger',
    byhand: "child_process, kill → 'exit'",
    execa: "execa, kill → 'exit'",
    pm2: 'pm2.stop',
  },
  metrics: {
    stop: { label: 'call → resolved', unit: 'ms' },
    asked: { label: 'call → the daemon gets SIGTERM', unit: 'ms' },
    after: { label: "the daemon's exit → resolved", unit: 'ms' },
  },

  async run(trial, contestant) {
    const stops = trial.quick ? 10 : 25;
    const samples = { stop: [], asked: [], after: [] };
    const { start, stop, end } = await contestants[contestant](trial);
    for (let index = 0; index < stops; index++) {
      const name = `d${index}`;
      const handle = await start(name);
      const { pid } = await trial.stamped(name, 'listen');
      const called = now();
      await stop(name, handle);
      const resolved = now();
      assert(!descendants(process.pid).some((process) => process.pid === pid), `${name} is gone`);
      samples.stop.push(resolved - called);
      samples.asked.push((await trial.stamped(name, 'asked')).at - called);
      samples.after.push(resolved - (await trial.stamped(name, 'exit')).at);
    }
    await end();
    return samples;
  },
};

const contestants = {
  ally: (trial) => managed(trial, false),
  watched: (trial) => managed(trial, true),
  byhand: (trial) => spawned((name) => byhand.start(trial, name)),
  execa: async (trial) => spawned(await byhand.execa(trial)),
  async pm2(trial) {
    const daemons = await pm2.connect(trial);
    return { start: (name) => daemons.start(name), stop: (name) => daemons.stop(name), end: () => daemons.end() };
  },
};

/** In an object, because execa's child is a promise too. */
function spawned(call) {
  return { start: (name) => ({ child: call(name) }), stop: (_, { child }) => byhand.stop(child), end() {} };
}

/** Another daemon runs meanwhile, so that the guardian keeps running. */
async function managed(trial, watched) {
  const manager = trial.manager({ watched });
  await manager.startProcess(trial.config('other'));
  return {
    start: (name) => manager.startProcess(trial.config(name)),
    stop: (name) => manager.stopProcess(name),
    end: () => manager.stopAllProcesses(),
  };
}
