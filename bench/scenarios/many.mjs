// Many daemons, each with a health check per second, for ten seconds: CPU and memory of the owner.

import { connects } from '../../__tests__/helpers/sockets.js';
import * as byhand from '../lib/byhand.mjs';
import { sleep, until } from '../../__tests__/helpers/until.js';
import { loopTime } from '../lib/loop.mjs';
import { helpers, memory as mapped, ranFor } from '../../__tests__/helpers/proc.js';
import { assert } from '../lib/trial.mjs';

/** The first daemons are left out of the memory per daemon: with them come a thread, code and buffers. */
const FIRST = 20;

const scenario = (count, rounds) => ({
  name: `many${count}`,
  title: `${count.toLocaleString('en-US')} daemons, a check each second`,
  rounds,
  // Without V8's memory reducer, which takes 12 ms about ten seconds after any work.
  nodeArgs: ['--expose-gc', '--no-memory-reducer'],
  contestants: { ally: 'ally', watched: 'ally, events and logger', byhand: 'child_process, setInterval and connect' },
  metrics: {
    cpu: { label: 'CPU of the owner', unit: 'ms/s' },
    loop: { label: 'event loop busy', unit: '%' },
    memory: { label: 'memory of the owner per daemon', unit: 'KB' },
    helpers: { label: 'guardian and keepers per daemon (Pss)', unit: 'KB' },
    helpersCpu: { label: 'CPU of guardian and keepers', unit: 'ms/s' },
  },

  async run(trial, contestant) {
    const names = Array.from({ length: count }, (_, index) => `d${index}`);
    const fleet = contestants[contestant](trial);
    await fleet.start(names.slice(0, FIRST));
    const before = memory();
    await fleet.start(names.slice(FIRST));
    await sleep(2_000);
    const perDaemon = (memory() - before) / 1024 / (count - FIRST);

    const seconds = trial.quick ? 4 : 10;
    const pids = helpers();
    const helpersBefore = cpuOf(pids);
    const cpuBefore = process.cpuUsage();
    const { share } = await loopTime(() => sleep(seconds * 1_000));
    const { user, system } = process.cpuUsage(cpuBefore);
    const helpersCpu = (cpuOf(pids) - helpersBefore) / seconds;

    await fleet.check(names);
    const kept = pids.reduce((sum, pid) => sum + mapped(pid, 'Pss'), 0) * 1.024;
    await fleet.end();
    const result = { cpu: [(user + system) / 1e3 / seconds], loop: [share], memory: [perDaemon * 1.024] };
    return contestant === 'byhand' ? result : { ...result, helpers: [kept / count], helpersCpu: [helpersCpu] };
  },
});

const contestants = { ally: (trial) => managed(trial, false), watched: (trial) => managed(trial, true), byhand: handmade };

/** In bytes, after a garbage collection. */
function memory() {
  globalThis.gc();
  return process.memoryUsage.rss();
}

const cpuOf = (pids) => pids.reduce((sum, pid) => sum + ranFor(pid), 0);

function managed(trial, watched) {
  const manager = trial.manager({ watched });
  return {
    start: (names) =>
      Promise.all(
        names.map((name) => manager.startProcess(trial.config(name, { healthcheck: { interval: 1_000, timeout: 900, retries: 3 } }))),
      ),
    async check(names) {
      for (const name of names) {
        const { state, failedHealthChecks, totalRestarts } = manager.getProcessInfo(name);
        assert(
          state === 'running' && failedHealthChecks === 0 && totalRestarts === 0,
          `${name} is running, without a failed check or a restart`,
        );
      }
      if (watched) assert(manager.received.events > names.length * 4, 'each check was an event');
    },
    end: () => manager.stopAllProcesses(),
  };
}

function handmade(trial) {
  const children = [];
  const timers = [];
  const failed = new Map();
  return {
    async start(names) {
      children.push(...names.map((name) => byhand.start(trial, name)));
      for (const name of names) {
        await trial.stamped(name, 'listen');
        const { socket } = trial.place(name);
        timers.push(setInterval(async () => failed.set(name, !(await connects(socket))), 1_000));
      }
    },
    check: () =>
      until(() => failed.size === children.length && [...failed.values()].every((value) => !value), 30_000, 'every check passes'),
    end() {
      for (const timer of timers) clearInterval(timer);
      return Promise.all(children.map(byhand.stop));
    },
  };
}

export const many200 = scenario(200, { quick: 1, full: 3 });
export const many1000 = scenario(1_000, { quick: 0, full: 3 });
