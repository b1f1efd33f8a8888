// Many starts in one tick, in a program with 1 GiB of heap: what its event loop feels, and when all are ready.

import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { now, sleep, until } from '../lib/clock.mjs';
import { fill, worstStall } from '../lib/loop.mjs';
import * as byhand from '../lib/byhand.mjs';
import { waited } from '../lib/proc.mjs';
import { assert } from '../lib/world.mjs';

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

  async run(world, contestant) {
    const heap = fill(2 ** 30);
    // A heap that has been there for a while: what V8 still has to sort out about a new one is not the contestants'.
    globalThis.gc();
    globalThis.gc();
    const names = Array.from({ length: count }, (_, index) => `d${index}`);
    // Folders and configurations are the user's affair, whatever starts the daemons.
    const configs = names.map((name) => world.config(name));
    const { starts, end } = await starters[contestant](world, names, configs);
    const { result, stall } = await worstStall(async () => {
      const waitedBefore = waited(process.pid);
      const begun = now();
      const pending = starts();
      const returned = now();
      const ready = await pending;
      return { ready: ready - begun, calls: returned - begun, waited: waited(process.pid) - waitedBefore };
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
  ally: (world, names, configs) => managed(world, names, configs, false),
  watched: (world, names, configs) => managed(world, names, configs, true),
  byhand: (world, names) => spawned(world, names, (name) => byhand.start(world, name)),
  execa: async (world, names) => spawned(world, names, await byhand.execa(world)),
  limit,
  beside,
  idle: () => ({ starts: () => sleep(300), end() {} }),
};

function managed(world, names, configs, watched) {
  const manager = world.manager({ watched });
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
function spawned(world, names, call) {
  const children = [];
  return {
    async starts() {
      children.push(...names.map((name) => call(name)));
      return lastListen(world, names);
    },
    end: () => Promise.all(children.map(byhand.stop)),
  };
}

async function lastListen(world, names) {
  let last = 0;
  for (const name of names) last = Math.max(last, (await world.stamped(name, 'listen')).at);
  return last;
}

/** An idle loop while somebody else makes as many processes: how long the machine keeps it from a core. */
function beside(world, names) {
  const folder = join(world.dir, 'spawned');
  mkdirSync(folder);
  // Made before it counts, since Node's own spawn stalls the loop more than anything.
  const spawner = spawn('sh', ['-c', 'sleep 0.5; exec "$0" --spawn "$1" "$2"', world.daemon, String(names.length), folder], {
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
function limit(world, names) {
  const folder = join(world.dir, 'spawned');
  mkdirSync(folder);
  const stamps = (file) =>
    readFileSync(join(folder, file), 'latin1')
      .split('\n')
      .filter(Boolean)
      .map((line) => Number(line.split(' ')[1]) / 1e3);
  let spawner;
  return {
    async starts() {
      spawner = spawn(world.daemon, ['--spawn', String(names.length), folder], {
        env: { ...process.env, BENCH_STAMP: join(folder, 'begin') },
        stdio: ['pipe', 'ignore', 'inherit'],
      });
      const begun = now();
      const all = await until(() => {
        const files = readdirSync(folder).filter((file) => file.endsWith('.stamp'));
        const listening = files.flatMap(stamps);
        return listening.length === names.length && listening;
      }, 'all spawned daemons listen');
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
