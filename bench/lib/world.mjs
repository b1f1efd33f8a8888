// What one trial has: a folder of its own, daemons in it, and the duty to leave nothing behind.

import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from './clock.mjs';
import { descendants, name } from './proc.mjs';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Required where it is used, so that a trial of somebody else doesn't carry it. */
export const ally = () => createRequire(import.meta.url)(root);

export class World {
  constructor({ dir, daemon, peers, quick }) {
    Object.assign(this, { dir, daemon, peers, quick });
    mkdirSync(dir, { recursive: true });
  }

  /** Where one daemon's things are. */
  place(name) {
    const folder = join(this.dir, name);
    mkdirSync(folder, { recursive: true });
    return { folder, socket: join(folder, 's'), stamps: join(folder, 'stamps') };
  }

  env(name) {
    const { socket, stamps } = this.place(name);
    return { ...process.env, SOCKET_PATH: socket, BENCH_STAMP: stamps };
  }

  config(name, changes = {}) {
    const { folder, socket, stamps } = this.place(name);
    return {
      pluginName: name,
      pluginPath: folder,
      command: this.daemon,
      args: [],
      socketPath: socket,
      startupTimeout: 30_000,
      shutdownGracePeriod: 5_000,
      envVars: { BENCH_STAMP: stamps },
      ...changes,
    };
  }

  /** A manager; `watched`: with every event listened to, and a logger that wants all of it. */
  manager({ watched = false } = {}) {
    const { BackgroundProcessManager } = ally();
    const heard = { events: 0, records: 0 };
    const record = () => heard.records++;
    const logger = watched ? { debug: record, info: record, warn: record, error: record } : undefined;
    const manager = new BackgroundProcessManager({ envsDir: join(this.dir, 'envs'), logger });
    if (watched) for (const event of ['stateChange', 'exit', 'restart', 'health', 'output']) manager.on(event, () => heard.events++);
    return Object.assign(manager, { heard });
  }

  /** What a daemon noted, oldest first: { word, at, pid }, with `at` in milliseconds since 1970. */
  stamps(name, suffix = '') {
    let text = '';
    try {
      text = readFileSync(this.place(name).stamps + suffix, 'latin1');
    } catch {
      // not started yet
    }
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [word, micros, pid] = line.split(' ');
        return { word, at: Number(micros) / 1e3, pid: Number(pid) };
      });
  }

  /** The latest `word` of a daemon, once it has noted that at least `count` times. */
  stamped(name, word, count = 1, suffix = '') {
    return until(() => {
      const found = this.stamps(name, suffix).filter((stamp) => stamp.word === word);
      return found.length >= count && found.at(-1);
    }, `${word} of ${name}`);
  }

  /** Everything that this process started is gone; a guardian lingers a moment. */
  async nothingLeft() {
    await until(() => descendants(process.pid).length === 0, 'nothing left', 5_000).catch(() => {
      const left = descendants(process.pid).map((pid) => `${name(pid)} (${pid})`);
      throw new Error(`left running: ${left.join(', ')}`);
    });
  }
}

export function assert(fact, what) {
  if (!fact) throw new Error(`not so: ${what}`);
}
