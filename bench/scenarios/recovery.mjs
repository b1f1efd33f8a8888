// SIGKILL of a daemon → it listens again. The daemons of all contestants run at the same time, and are killed in turn.

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { now } from '../lib/clock.mjs';
import { sleep, until } from '../../__tests__/helpers/until.js';
import { alive } from '../../__tests__/helpers/proc.js';
import * as byhand from '../lib/byhand.mjs';
import * as pm2 from '../lib/pm2.mjs';
import { assert } from '../lib/trial.mjs';

/** If a daemon ran for less than a second, runit and s6 wait before the restart. Each daemon runs longer than that. */
const RUN_TIME = 1_600;

export default {
  name: 'recovery',
  title: 'kill -9 → listening again, no delay configured',
  rounds: { quick: 1, full: 1 },
  together: true,
  contestants: {
    ally: 'ally',
    watched: 'ally, events and logger',
    crowd: 'ally, beside 200 other daemons',
    byhand: "child_process, spawn at 'exit'",
    runit: 'runit (runsv)',
    pm2: 'pm2',
    s6: 's6 (s6-supervise)',
  },
  metrics: { recovery: { label: 'kill → listening', unit: 'ms' } },

  async run(trial, available) {
    const samples = {};
    const running = {};
    for (const contestant of available) {
      running[contestant] = await contestants[contestant](trial);
      await trial.stamped(contestant, 'listen');
      samples[contestant] = { recovery: [] };
    }
    for (let round = 0; round < (trial.quick ? 6 : 30); round++) {
      await sleep(RUN_TIME);
      // Each round begins with another contestant.
      for (const contestant of available.map((_, index) => available[(index + round) % available.length])) {
        const before = trial.stamps(contestant);
        const killed = now();
        process.kill(before.at(-1).pid, 'SIGKILL');
        const { at } = await trial.stamped(contestant, 'listen', before.length + 1);
        samples[contestant].recovery.push(at - killed);
        await sleep(30);
      }
    }
    for (const contestant of available) await running[contestant].end?.();
    for (const contestant of available) {
      const { pid } = trial.stamps(contestant).at(-1);
      await until(() => !alive(pid), 3_000, `${contestant}'s daemon is gone`);
    }
    return samples;
  },
};

const contestants = {
  ally: (trial) => managed(trial, 'ally', false),
  watched: (trial) => managed(trial, 'watched', true),
  async crowd(trial) {
    const { manager, end } = await managed(trial, 'crowd', false);
    await Promise.all(Array.from({ length: 200 }, (_, index) => manager.startProcess(trial.config(`other${index}`))));
    return { end };
  },
  byhand(trial) {
    let child;
    const run = () => {
      child = byhand.start(trial, 'byhand');
      child.on('exit', run);
    };
    run();
    return {
      end() {
        child.off('exit', run);
        return byhand.stop(child);
      },
    };
  },
  async pm2(trial) {
    const daemons = await pm2.connect(trial);
    await daemons.start('pm2');
    return daemons;
  },
  runit: (trial) => supervised(trial, 'runit', trial.peers.runsv, 'SIGTERM'),
  s6: (trial) => supervised(trial, 's6', trial.peers.s6, 'SIGTERM'),
};

async function managed(trial, name, watched) {
  const manager = trial.manager({ watched });
  // The limits on restarts must not be reached.
  await manager.startProcess(
    trial.config(name, { restart: { delay: 0, jitter: 0, maxAttempts: 1_000, window: { limit: 100_000, period: 300_000 } } }),
  );
  return {
    manager,
    async end() {
      await until(() => manager.isRunning(name), 30_000, 'the last restart is done');
      assert(manager.getProcessInfo(name).totalRestarts === trial.stamps(name).length - 1, 'every restart was counted');
      await manager.stopAllProcesses();
    },
  };
}

/** A service directory with a run script only. On SIGTERM both supervisors end the service and exit. */
function supervised(trial, name, program, signal) {
  const service = join(trial.dir, `${name}.service`);
  mkdirSync(service);
  writeFileSync(join(service, 'run'), `#!/bin/sh\nexec ${trial.daemon}\n`, { mode: 0o755 });
  const env = { ...trial.env(name), ...(trial.peers.libraries ? { LD_LIBRARY_PATH: trial.peers.libraries } : {}) };
  const child = spawn(program, [service], { env, stdio: 'ignore' });
  return {
    end() {
      child.kill(signal);
      return byhand.ended(child);
    },
  };
}
