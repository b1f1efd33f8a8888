// What costs time, next to something else that costs time in the same process at the same moment. The
// best of several rounds counts: whatever disturbs a round makes it worse, never better.

import { sleep } from '../lib/clock.mjs';
import * as byhand from '../lib/byhand.mjs';

const STARTS = 15;
const ROUNDS = 5;

export async function ratios(world, check) {
  const manager = world.manager();
  const below = (what, value, limit) => check(what, value <= limit, `${value.toFixed(2)}, at most ${limit}`);

  // Starts: user and system time of the whole owner, and the time until the call returns.
  const best = { ally: [Infinity, Infinity], byhand: [Infinity, Infinity] };
  let count = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const [who, start, stop] of [['ally', ...managed(manager, world)], ['byhand', ...handmade(world)]]) {
      const names = Array.from({ length: STARTS }, () => `d${count++}`);
      names.forEach((name) => world.place(name));
      const before = process.cpuUsage();
      let calls = 0;
      for (const name of names) {
        const begun = performance.now();
        const pending = start(name);
        calls += performance.now() - begun;
        await pending;
      }
      const { user, system } = process.cpuUsage(before);
      best[who] = [Math.min(best[who][0], user + system), Math.min(best[who][1], calls)];
      await Promise.all(names.map(stop));
    }
  }
  below("a start's CPU time in the owner, of child_process.spawn's", best.ally[0] / best.byhand[0], LIMITS.start);
  below("a start's time on the JavaScript thread, of child_process.spawn's", best.ally[1] / best.byhand[1], LIMITS.call);

  // Getters, next to the least that any can do.
  await manager.startProcess(world.config('seen'));
  const map = new Map([['seen', { state: 'running' }]]);
  const looks = { Map: (name) => map.get(name).state, isRunning: null, getState: null, getPid: null, getProcessInfo: null };
  const times = {};
  for (let round = 0; round < 20; round++) {
    for (const [getter, look] of Object.entries(looks)) times[getter] = Math.min(times[getter] ?? Infinity, time(look ?? ((name) => manager[getter](name))));
  }
  for (const getter of ['isRunning', 'getState', 'getPid', 'getProcessInfo']) below(`${getter}, of a Map's get`, times[getter] / times.Map, LIMITS[getter]);
  await manager.stopAllProcesses();
  await world.nothingLeft();
}

/** Each about three times what was seen on a quiet machine; see bench/results.json for times. */
const LIMITS = { start: 1.2, call: 0.4, isRunning: 150, getState: 150, getPid: 150, getProcessInfo: 600 };

function time(look) {
  const calls = 5_000;
  const begun = performance.now();
  for (let call = 0; call < calls; call++) if (look('seen') === undefined) throw new Error('it was not seen');
  return performance.now() - begun;
}

function managed(manager, world) {
  return [(name) => manager.startProcess(world.config(name)), (name) => manager.stopProcess(name)];
}

/** Ready where it listens: nothing is spent on finding that out. */
function handmade(world) {
  const children = new Map();
  return [
    (name) => {
      children.set(name, byhand.start(world, name));
      return sleep(3);
    },
    (name) => byhand.stop(children.get(name)),
  ];
}
