// Many starts in one tick, in a program with 1 GiB of heap: the stall of its event loop, and the time until all are ready.

import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { now } from '../lib/clock.mjs';
import { sleep, until } from '../../__tests__/helpers/until.js';
import { fill, worstStall } from '../lib/loop.mjs';
import * as byhand from '../lib/byhand.mjs';
import { waitedForCore } from '../../__tests__/helpers/proc.js';
import { assert } from '../lib/trial.mjs';

const scenario = (count, rounds, contestants) => ({
  name: `burst${count}`,
  title: `${count} starts at once, 1 GiB of heap in the owner`,
  rounds,
  contestants,
  nodeArgs: ['--expose-gc'],
  metrics: {
    stall: { label: 'worst stall of the loop', unit: 'ms' },
    calls: { label: 'calls → all returned', unit: 'ms' },
    waited: { label: 'calls → all ready: the JavaScript thread waited for a core', unit: 'ms' },
    ready: { label: 'calls → all ready', unit: 'ms' },
  },

  async run(trial, contestant) {
    const heap = fill(2 ** 30);
    // Collected twice, so that V8's work for a new heap is not measured.
    globalThis.gc();
    globalThis.gc();
    const names = Array.from({ length: count }, (_, index) => `d${index}`);
    // Folders and configurations are created before, for every contestant.
    const configs = names.map((name) => trial.config(name));
    const { starts, end } = await starters[contestant](trial, names, configs);
    const { result, stall } = await worstStall(async () => {
      const waitedBefore = waitedForCore(process.pid);
      const begun = now();
      const pending = starts();
      const returned = now();
      const ready = await pending;
      return { ready: ready - begun, calls: returned - begun, waited: waitedForCore(process.pid) - waitedBefore };
    });
    await end();
    assert(heap.length > 0, 'the heap was in use');
    // `limit` has no loop to measure. `idle` and `beside` start no daemon in this process.
    if (contestant === 'limit') return { ready: [result.ready] };
    if (contestant === 'idle' || contestant === 'beside') return { stall: [stall] };
    return { stall: [stall], calls: [result.calls], waited: [result.waited], ready: [result.ready] };
  },
});

const starters = {
  ally: (trial, names, configs) => managed(trial, names, configs, false),
  watched: (trial, names, configs) => managed(trial, names, configs, true),
  byhand: (trial, names) => spawned(trial, names, (name) => byhand.start(trial, name)),
  execa: async (trial, names) => spawned(trial, names, await byhand.execa(trial)),
  limit,
  beside,
  idle: () => ({ starts: () => sleep(300), end() {} }),
};

function managed(trial, names, configs, watched) {
  const manager = trial.manager({ watched });
  return {
    async starts() {
      await Promise.all(configs.map((config) => manager.startProcess(config)));
      return now();
    },
    async end() {
      assert(
        names.every((name) => manager.isRunning(name)),
        'all of them run',
      );
      await manager.stopAllProcesses();
    },
  };
}

/** Ready at the last `listen` stamp. The caller's detection of readiness is not counted. */
function spawned(trial, names, call) {
  const children = [];
  return {
    async starts() {
      children.push(...names.map((name) => call(name)));
      return lastListen(trial, names);
    },
    end: () => Promise.all(children.map(byhand.stop)),
  };
}

async function lastListen(trial, names) {
  let last = 0;
  for (const name of names) last = Math.max(last, (await trial.stamped(name, 'listen')).at);
  return last;
}

/** An idle loop while another process spawns the same number of daemons: the time that the loop waits for a core. */
function beside(trial, names) {
  const folder = join(trial.dir, 'spawned');
  mkdirSync(folder);
  // Spawned before the measurement, because Node's spawn stalls the loop.
  const spawner = spawn('sh', ['-c', 'sleep 0.5; exec "$0" --spawn "$1" "$2"', trial.daemon, String(names.length), folder], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  return {
    starts: () => sleep(1_200),
    async end() {
      assert(readdirSync(folder).filter((file) => file.endsWith('.stamp')).length === names.length, 'every daemon was spawned');
      spawner.stdin.end();
      await byhand.ended(spawner);
    },
  };
}

/** A process of 1 MB that only calls posix_spawn(3). */
function limit(trial, names) {
  const folder = join(trial.dir, 'spawned');
  mkdirSync(folder);
  const stamps = (file) =>
    readFileSync(join(folder, file), 'latin1')
      .split('\n')
      .filter(Boolean)
      .map((line) => Number(line.split(' ')[1]) / 1e3);
  let spawner;
  return {
    async starts() {
      spawner = spawn(trial.daemon, ['--spawn', String(names.length), folder], {
        env: { ...process.env, BENCH_STAMP: join(folder, 'begin') },
        stdio: ['pipe', 'ignore', 'inherit'],
      });
      const begun = now();
      const listening = () => {
        const files = readdirSync(folder).filter((file) => file.endsWith('.stamp'));
        const found = files.flatMap(stamps);
        return found.length === names.length && found;
      };
      const all = await until(listening, 30_000, 'all spawned daemons listen');
      // Without the start of the spawning process itself.
      return begun + Math.max(...all) - stamps('begin')[0];
    },
    async end() {
      spawner.stdin.end();
      await byhand.ended(spawner);
    },
  };
}

const all = {
  ally: 'ally',
  watched: 'ally, events and logger',
  byhand: 'child_process.spawn',
  execa: 'execa',
  limit: 'posix_spawn alone, from a small process',
  idle: 'an idle loop',
  beside: 'an idle loop beside posix_spawn of as many',
};
const few = { ally: 'ally', byhand: 'child_process.spawn', limit: 'posix_spawn alone, from a small process' };

export const burst50 = scenario(50, { quick: 3, full: 9 }, all);
export const burst500 = scenario(500, { quick: 0, full: 3 }, few);
