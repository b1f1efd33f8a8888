// pm2 by its programmatic API. Each trial has a PM2_HOME, and so a pm2 daemon, of its own.

import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { promisify } from 'node:util';

export async function connect(trial) {
  process.env.PM2_HOME = join(trial.dir, 'pm2');
  // The default is SIGINT.
  process.env.PM2_KILL_SIGNAL = 'SIGTERM';
  // Otherwise pm2 sends a request to its version server.
  process.env.PM2_DISABLE_VERSION_CHECK = 'true';
  mkdirSync(process.env.PM2_HOME, { recursive: true });
  const pm2 = createRequire(import.meta.url)(trial.peers.pm2);
  const call = (method, ...args) => promisify(pm2[method].bind(pm2))(...args);
  await call('connect');
  return {
    start(name) {
      const { folder, socket, stamps } = trial.place(name);
      return call('start', {
        name,
        script: trial.daemon,
        interpreter: 'none',
        exec_mode: 'fork',
        cwd: folder,
        env: { SOCKET_PATH: socket, BENCH_STAMP: stamps },
      });
    },
    stop: (name) => call('stop', name),
    async end() {
      await call('delete', 'all');
      await call('killDaemon');
      pm2.disconnect();
    },
  };
}
