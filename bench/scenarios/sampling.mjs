// Samples of many daemons each second, without health checks: CPU of the owner.

import { readFileSync, readdirSync } from 'node:fs';
import { sleep } from '../../__tests__/helpers/until.js';
import * as byhand from '../lib/byhand.mjs';
import { loopTime } from '../lib/loop.mjs';
import { assert } from '../lib/trial.mjs';

const WORKERS = 8;

const shapes = {
  ally: { daemons: 200, args: [], ask: true },
  idle: { daemons: 200, args: [], ask: false },
  // As many processes, in trees whose shared memory is told apart.
  workers: { daemons: 200 / WORKERS, args: ['--workers', String(WORKERS)], ask: true },
};

export default {
  name: 'sampling',
  title: '200 daemons sampled each second',
  rounds: { quick: 1, full: 3 },
  nodeArgs: ['--no-memory-reducer'],
  contestants: {
    ally: 'ally, getMetrics each second',
    idle: 'ally, nobody asks',
    workers: `ally, getMetrics each second of 25 daemons with ${WORKERS} forked workers each`,
    byhand: 'child_process, setInterval and /proc of the one process',
  },
  metrics: {
    cpu: { label: 'CPU of the owner', unit: 'ms/s' },
    loop: { label: 'event loop busy', unit: '%' },
    call: { label: 'getMetrics() of all', unit: 'ms' },
  },

  async run(trial, contestant) {
    const seconds = trial.quick ? 4 : 10;
    if (contestant === 'byhand') return handmade(trial, seconds);
    const { daemons, args, ask } = shapes[contestant];
    const manager = trial.manager();
    const names = Array.from({ length: daemons }, (_, index) => `d${index}`);
    await Promise.all(names.map((name) => manager.startProcess(trial.config(name, { args }))));
    const calls = [];
    const asking = setInterval(() => {
      if (!ask) return;
      const begun = performance.now();
      const all = manager.getMetrics();
      calls.push(performance.now() - begun);
      assert(all.length === daemons && all.every(({ resources }) => resources), 'each daemon has a sample');
    }, 1_000);
    await sleep(2_000);
    const result = await spent(seconds);
    clearInterval(asking);
    if (ask) {
      const processes = manager.getMetrics().reduce((sum, { resources }) => sum + resources.processes, 0);
      assert(processes === (args.length > 0 ? daemons * (WORKERS + 1) : daemons), 'each process was sampled');
      result.call = calls.slice(1);
    }
    await manager.stopAllProcesses();
    return result;
  },
};

async function spent(seconds) {
  const before = process.cpuUsage();
  const { share } = await loopTime(() => sleep(seconds * 1_000));
  const { user, system } = process.cpuUsage(before);
  return { cpu: [(user + system) / 1e3 / seconds], loop: [share] };
}

/** As a program without a manager: files of /proc, read on the event loop. */
async function handmade(trial, seconds) {
  const names = Array.from({ length: 200 }, (_, index) => `d${index}`);
  const children = names.map((name) => byhand.start(trial, name));
  for (const name of names) await trial.stamped(name, 'listen');
  const sampling = setInterval(() => {
    for (const { pid } of children) {
      for (const file of ['stat', 'statm', `task/${pid}/children`]) readFileSync(`/proc/${pid}/${file}`, 'latin1');
      readdirSync(`/proc/${pid}/fd`);
    }
  }, 1_000);
  await sleep(2_000);
  const result = await spent(seconds);
  clearInterval(sampling);
  await Promise.all(children.map(byhand.stop));
  return result;
}
