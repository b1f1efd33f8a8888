// kill -9 of a daemon → it listens again. Everybody's daemon runs at the same time, and they are killed in turn.

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { now, sleep, until } from '../lib/clock.mjs';
import * as byhand from '../lib/byhand.mjs';
import * as pm2 from '../lib/pm2.mjs';
import { assert } from '../lib/world.mjs';

/** runit and s6 wait for the rest of the second where a daemon lived for less; nobody is to be measured by that. */
const LIFE = 1_600;

export default {
  name: 'back',
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
  metrics: { back: { label: 'kill → listening', unit: 'ms' } },

  async run(world, available) {
    const samples = {};
    const running = {};
    for (const contestant of available) {
      running[contestant] = await contestants[contestant](world);
      await world.stamped(contestant, 'listen');
      samples[contestant] = { back: [] };
    }
    for (let round = 0; round < (world.quick ? 6 : 30); round++) {
      await sleep(LIFE);
      // Nobody is always the first.
      for (const contestant of available.map((_, index) => available[(index + round) % available.length])) {
        const before = world.stamps(contestant);
        const killed = now();
        process.kill(before.at(-1).pid, 'SIGKILL');
        const { at } = await world.stamped(contestant, 'listen', before.length + 1);
        samples[contestant].back.push(at - killed);
        await sleep(30);
      }
    }
    for (const contestant of available) await running[contestant].end?.();
    for (const contestant of available) {
      const { pid } = world.stamps(contestant).at(-1);
      await until(() => !alive(pid), `${contestant}'s daemon is gone`, 3_000);
    }
    return samples;
  },
};

const contestants = {
  ally: (world) => managed(world, 'ally', false),
  watched: (world) => managed(world, 'watched', true),
  async crowd(world) {
    const { manager, end } = await managed(world, 'crowd', false);
    await Promise.all(Array.from({ length: 200 }, (_, index) => manager.startProcess(world.config(`other${index}`))));
    return { end };
  },
  byhand(world) {
    let child;
    const run = () => {
      child = byhand.start(world, 'byhand');
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
  async pm2(world) {
    const daemons = await pm2.connect(world);
    await daemons.start('pm2');
    return daemons;
  },
  runit: (world) => supervised(world, 'runit', world.peers.runsv, 'SIGTERM'),
  s6: (world) => supervised(world, 's6', world.peers.s6, 'SIGTERM'),
};

async function managed(world, name, watched) {
  const manager = world.manager({ watched });
  // As many as are needed: how often is not the question.
  await manager.startProcess(
    world.config(name, { restart: { delay: 0, jitter: 0, maxAttempts: 1_000, window: { limit: 100_000, period: 300_000 } } }),
  );
  return {
    manager,
    async end() {
      await until(() => manager.isRunning(name), 'the last restart is done');
      assert(manager.getProcessInfo(name).totalRestarts === world.stamps(name).length - 1, 'every death was counted');
      await manager.stopAllProcesses();
    },
  };
}

/** A service directory with nothing but a run script. Both programs end their service and themselves at SIGTERM. */
function supervised(world, name, program, signal) {
  const service = join(world.dir, `${name}.service`);
  mkdirSync(service);
  writeFileSync(join(service, 'run'), `#!/bin/sh\nexec ${world.daemon}\n`, { mode: 0o755 });
  const env = { ...world.env(name), ...(world.peers.libraries ? { LD_LIBRARY_PATH: world.peers.libraries } : {}) };
  const child = spawn(program, [service], { env, stdio: 'ignore' });
  return {
    end() {
      child.kill(signal);
      return byhand.ended(child);
    },
  };
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
