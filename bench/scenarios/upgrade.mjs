// An upgrade beside the two things that it consists of: the start of the new daemon, and the stop of the old one.

import { PYTHON } from '../../__tests__/helpers/python.js';
import { script } from '../../__tests__/helpers/world.js';
import { now } from '../lib/clock.mjs';

export default {
  name: 'upgrade',
  title: 'upgradeProcess, and start and stop of the same daemon',
  rounds: { quick: 1, full: 3 },
  contestants: {
    held: "ally, socket: 'manager', Python",
    own: "ally, socket: 'daemon', the benchmark's daemon",
  },
  metrics: {
    start: { label: 'start', unit: 'ms' },
    stop: { label: 'stop', unit: 'ms' },
    upgrade: { label: 'upgrade', unit: 'ms' },
    added: { label: 'upgrade beyond start and stop', unit: 'ms' },
  },

  async run(trial, contestant) {
    const manager = trial.manager();
    await manager.startProcess(trial.config('other'));
    const changes = { held: { command: PYTHON, args: script('serves-held.py'), socket: 'manager' }, own: {} }[contestant];
    const timed = async (call) => {
      const begin = now();
      await call();
      return now() - begin;
    };
    const samples = { start: [], stop: [], upgrade: [], added: [] };
    for (let index = 0; index < (trial.quick ? 10 : 30); index++) {
      const config = trial.config(`d${index}`, changes);
      const start = await timed(() => manager.startProcess(config));
      const upgrade = await timed(() => manager.upgradeProcess(config.pluginName));
      const stop = await timed(() => manager.stopProcess(config.pluginName));
      for (const [metric, value] of Object.entries({ start, stop, upgrade, added: upgrade - start - stop })) samples[metric].push(value);
    }
    await manager.stopAllProcesses();
    return samples;
  },
};
