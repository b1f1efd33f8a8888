// Many starts in one tick, in a program with 1 GiB of heap: what its event loop feels, and when all are ready.

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
    // A heap that has been there for a while: what V8 still has to sort out about a new one is not the contestants'.
    globalThis.gc();
    globalThis.gc();
    const names = Array.from({ length: count }, (_, index) => `d${index}`);
    // Folders and configurations are the user's affair, whatever starts the daemons.
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
    assert(heap.length > 0, 'the heap was there');
    // The limit's loop is not the one in question, and an idle one gets nothing ready.
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

/** Ready: when the last one listens. That the caller would have to find out is not counted. */
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

/** An idle loop while somebody else makes as many processes: how long the machine keeps it from a core. */
function beside(trial, names) {
  const folder = join(trial.dir, 'spawned');
  mkdirSync(folder);
  // Made before it counts, since Node's own spawn stalls the loop more than anything.
  const spawner = spawn('sh', ['-c', 'sleep 0.5; exec "$0" --spawn "$1" "$2"', trial.daemon, String(names.length), folder], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  return {
    starts: () => sleep(1_200),
    async end() {
      assert(readdirSync(folder).filter((file) => file.endsWith('.stamp')).length === names.length, 'all of them were made');
      spawner.stdin.end();
      await byhand.ended(spawner);
    },
  };
}

/** A process of a megabyte that does nothing but posix_spawn(3). */
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
      // As if it had begun at the call.
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
