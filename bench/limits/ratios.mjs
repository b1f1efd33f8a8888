// Ratios of CPU times in the same process at the same moment. The best of several rounds counts, because a disturbance makes
// a round worse and never better.

import { sleep } from '../../__tests__/helpers/until.js';
import * as byhand from '../lib/byhand.mjs';

const STARTS = 15;
const ROUNDS = 5;
const MIB = '32';

export async function ratios(trial, check) {
  const manager = trial.manager();
  const below = (what, value, limit) => check(what, value <= limit, `${value.toFixed(2)}, at most ${limit}`);

  // Starts: user and system time of the whole owner, and the time until the call returns.
  const best = { ally: [Infinity, Infinity], byhand: [Infinity, Infinity] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [contestant, start, stop] of [
      ['ally', ...managed(manager, trial)],
      ['byhand', ...handmade(trial)],
    ]) {
      // The same names in each round. Their folders are created before, because folders are not compared.
      const names = Array.from({ length: STARTS }, (_, index) => `${contestant}${index}`);
      for (const name of names) trial.place(name);
      const before = process.cpuUsage();
      let calls = 0;
      for (const name of names) {
        const begun = performance.now();
        const pending = start(name);
        calls += performance.now() - begun;
        await pending;
      }
      const { user, system } = process.cpuUsage(before);
      best[contestant] = [Math.min(best[contestant][0], user + system), Math.min(best[contestant][1], calls)];
      await Promise.all(names.map(stop));
    }
  }
  below("CPU time of a start in the owner, of child_process.spawn's", best.ally[0] / best.byhand[0], LIMITS.start);
  below("time of a start on the JavaScript thread, of child_process.spawn's", best.ally[1] / best.byhand[1], LIMITS.call);

  // Reading output without a listener, compared with an empty 'data' listener of child_process.
  const reading = { ally: Infinity, byhand: Infinity };
  await manager.startProcess(trial.config('managed-flood', { args: ['--flood', MIB] }));
  const child = byhand.start(trial, 'byhand-flood', ['--flood', MIB]);
  await trial.stamped('byhand-flood', 'listen');
  for (let round = 1; round <= ROUNDS; round++) {
    for (const [contestant, name, pid] of [
      ['ally', 'managed-flood', manager.getPid('managed-flood')],
      ['byhand', 'byhand-flood', child.pid],
    ]) {
      const before = process.cpuUsage();
      process.kill(pid, 'SIGUSR1');
      await trial.stamped(name, 'done', round);
      const { user, system } = process.cpuUsage(before);
      reading[contestant] = Math.min(reading[contestant], user + system);
    }
  }
  below("CPU time of reading output, of child_process's", reading.ally / reading.byhand, LIMITS.output);
  await byhand.stop(child);

  // Getters, compared with a Map.
  const names = Array.from({ length: 16 }, (_, index) => `getter${index}`);
  await Promise.all(names.map((name) => manager.startProcess(trial.config(name))));
  const map = new Map(names.map((name) => [name, { state: 'running' }]));
  const getters = { map: (name) => map.get(name).state, isRunning: null, getState: null, getPid: null, getProcessInfo: null };
  const times = {};
  for (let round = 0; round < 20; round++) {
    for (const [getter, call] of Object.entries(getters))
      times[getter] = Math.min(times[getter] ?? Infinity, time(names, call ?? ((name) => manager[getter](name))));
  }
  for (const getter of ['isRunning', 'getState', 'getPid', 'getProcessInfo'])
    below(`${getter}, of a Map's get`, times[getter] / times.map, LIMITS[getter]);
  await manager.stopAllProcesses();
  await trial.nothingLeft();
}

/**
 * Above the measured ratios. Measured: CPU time of a start 0.8, time of its call 0.05 (0.22 on a slow machine). Output 0.3, and up to 1.2
 * on a busy machine (2 to 5 if output were split into lines). Getters 50, and 220 for getProcessInfo, which creates an object.
 */
const LIMITS = { start: 2, call: 0.3, output: 1.6, isRunning: 100, getState: 100, getPid: 100, getProcessInfo: 400 };

function time(names, call) {
  const calls = 4_096;
  const begun = performance.now();
  for (let index = 0; index < calls; index++)
    if (call(names[index % names.length]) === undefined) throw new Error('a getter gave undefined');
  return performance.now() - begun;
}

function managed(manager, trial) {
  return [(name) => manager.startProcess(trial.config(name)), (name) => manager.stopProcess(name)];
}

/** Waits 3 ms in place of a readiness check, so that only the spawn is measured. */
function handmade(trial) {
  const children = new Map();
  return [
    (name) => {
      children.set(name, byhand.start(trial, name));
      return sleep(3);
    },
    (name) => byhand.stop(children.get(name)),
  ];
}
