// A trial of a benchmark: a World with the benchmark's daemon, and the stamps of its daemons.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { descendants, threadName } from '../../__tests__/helpers/proc.js';
import { until } from '../../__tests__/helpers/until.js';
import { World } from '../../__tests__/helpers/world.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export class Trial extends World {
  constructor({ dir, daemon, peers, quick }) {
    super({ dir });
    Object.assign(this, { daemon, peers, quick });
  }

  /** Folder, socket and stamps file of a daemon. */
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
    return super.config(name, [], {
      pluginPath: folder,
      command: this.daemon,
      socketPath: socket,
      startupTimeout: 30_000,
      shutdownGracePeriod: 5_000,
      envVars: { BENCH_STAMP: stamps },
      ...changes,
    });
  }

  /** A manager. `watched`: with a listener of every event, and a logger of every level. */
  manager({ watched = false } = {}) {
    const received = { events: 0, logEntries: 0 };
    const log = () => received.logEntries++;
    const logger = watched ? { debug: log, info: log, warn: log, error: log } : undefined;
    const manager = super.manager({ logger });
    if (watched) for (const event of ['stateChange', 'exit', 'restart', 'health', 'output']) manager.on(event, () => received.events++);
    return Object.assign(manager, { received });
  }

  /** The stamps of a daemon, oldest first: { word, at, pid }, with `at` in milliseconds since 1970. */
  stamps(name, suffix = '') {
    let text = '';
    try {
      text = readFileSync(this.place(name).stamps + suffix, 'latin1');
    } catch {
      // The daemon has not written a stamp.
    }
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [word, micros, pid] = line.split(' ');
        return { word, at: Number(micros) / 1e3, pid: Number(pid) };
      });
  }

  /** Resolves to the latest stamp `word` of a daemon, as soon as it has `count` of them. */
  stamped(name, word, count = 1, suffix = '') {
    const enough = () => {
      const found = this.stamps(name, suffix).filter((stamp) => stamp.word === word);
      return found.length >= count && found.at(-1);
    };
    return until(enough, 30_000, `${word} of ${name}`);
  }

  /** Resolves when every descendant of this process is gone. The guardian exits a moment after the last daemon. */
  async nothingLeft() {
    const left = () => descendants(process.pid);
    await until(() => left().length === 0, 5_000).catch(() => {
      throw new Error(
        `left running: ${left()
          .map(({ pid }) => `${threadName(pid)} (${pid})`)
          .join(', ')}`,
      );
    });
  }
}

export function assert(fact, what) {
  if (!fact) throw new Error(`not true: ${what}`);
}
