// kill -9 of a daemon → its owner knows.

import { now, until } from '../lib/clock.mjs';
import * as byhand from '../lib/byhand.mjs';
import { assert } from '../lib/world.mjs';

export default {
  name: 'death',
  title: 'kill -9 → seen',
  rounds: { quick: 2, full: 6 },
  contestants: { ally: 'ally', watched: 'ally, events and logger', byhand: "child_process, 'exit'" },
  metrics: { event: { label: 'event', unit: 'ms' }, getter: { label: 'isRunning is false', unit: 'ms' } },

  async run(world, contestant) {
    const deaths = world.quick ? 10 : 25;
    return contestant === 'byhand' ? handmade(world, deaths) : managed(world, deaths, contestant === 'watched');
  },
};

async function managed(world, deaths, watched) {
  const manager = world.manager({ watched });
  const samples = { event: [], getter: [] };
  const config = world.config('d', { restart: { maxAttempts: 0 } });
  for (let index = 0; index < deaths * 2; index++) {
    await manager.startProcess(config);
    const seen = new Promise((resolve) => manager.once('exit', (event) => resolve({ at: now(), event })));
    const killed = now();
    process.kill(manager.getPid('d'), 'SIGKILL');
    if (index % 2 === 0) {
      const { at, event } = await seen;
      samples.event.push(at - killed);
      assert(event.signal === 'SIGKILL' && event.reason === 'crashed', 'the event says how it died');
    } else {
      // Asks without a pause, so that nothing but the getter counts.
      while (manager.isRunning('d')) await new Promise(setImmediate);
      samples.getter.push(now() - killed);
    }
    await until(() => manager.getState('d') === 'error', 'no restarts, so it is given up');
  }
  await manager.stopAllProcesses();
  return samples;
}

async function handmade(world, deaths) {
  const samples = { event: [] };
  for (let index = 0; index < deaths; index++) {
    const name = `d${index}`;
    const child = byhand.start(world, name);
    await world.stamped(name, 'listen');
    const seen = byhand.ended(child).then(now);
    const killed = now();
    child.kill('SIGKILL');
    samples.event.push((await seen) - killed);
  }
  return samples;
}
