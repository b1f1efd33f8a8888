// The end of a daemon that is willing to end.

import { now } from '../lib/clock.mjs';
import * as byhand from '../lib/byhand.mjs';
import * as pm2 from '../lib/pm2.mjs';
import { descendants } from '../lib/proc.mjs';
import { assert } from '../lib/world.mjs';

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

  async run(world, contestant) {
    const stops = world.quick ? 10 : 25;
    const samples = { stop: [], asked: [], after: [] };
    const { start, stop, end } = await contestants[contestant](world);
    for (let index = 0; index < stops; index++) {
      const name = `d${index}`;
      const handle = await start(name);
      const { pid } = await world.stamped(name, 'listen');
      const called = now();
      await stop(name, handle);
      const resolved = now();
      assert(!descendants(process.pid).includes(pid), `${name} is gone`);
      samples.stop.push(resolved - called);
      samples.asked.push((await world.stamped(name, 'asked')).at - called);
      samples.after.push(resolved - (await world.stamped(name, 'exit')).at);
    }
    await end();
    return samples;
  },
};

const contestants = {
  ally: (world) => managed(world, false),
  watched: (world) => managed(world, true),
  byhand: (world) => spawned((name) => byhand.start(world, name)),
  execa: async (world) => spawned(await byhand.execa(world)),
  async pm2(world) {
    const daemons = await pm2.connect(world);
    return { start: (name) => daemons.start(name), stop: (name) => daemons.stop(name), end: () => daemons.end() };
  },
};

/** In an object, because execa's child is also a promise of its end. */
function spawned(call) {
  return { start: (name) => ({ child: call(name) }), stop: (_, { child }) => byhand.stop(child), end() {} };
}

/** Another daemon runs all the while, so that the guardian does too. */
async function managed(world, watched) {
  const manager = world.manager({ watched });
  await manager.startProcess(world.config('other'));
  return {
    start: (name) => manager.startProcess(world.config(name)),
    stop: (name) => manager.stopProcess(name),
    end: () => manager.stopAllProcesses(),
  };
}
