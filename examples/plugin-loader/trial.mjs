import { join } from 'node:path';

import { ProcessState } from '../../index.js';
import { ask } from './client.mjs';
import { nextEvent, within } from './waiting.mjs';

// The limits of patience: far beyond what even a busy machine takes.
const SOON = 10_000;
const READY = 35_000;

// What each plugin is asked: `first` when all is well, `again` after it has been replaced.
const QUESTIONS = {
  search: {
    first: {
      request: { query: 'killed grace period' },
      tell: ({ hits: [hit] }) => `asked for "killed grace period": found in ${hit.file}, line ${hit.line}`,
    },
    again: {
      request: { query: 'killed grace period' },
      tell: ({ hits: [hit] }) => `finds it again in ${hit.file}, line ${hit.line}`,
    },
  },
  notes: {
    first: {
      request: { add: 'water the plants' },
      tell: ({ id }) => `asked to keep "water the plants": kept as note ${id}`,
    },
    again: {
      request: { list: true },
      tell: ({ notes: [note] }) => `still has its note "${note}"`,
    },
  },
};

/** What one plugin goes through. Each method tells its part of the story, or throws what went wrong. */
export class Trial {
  #plugin;
  #loader;
  #manager;
  #census;
  #timeline;

  constructor(plugin, { loader, census, timeline }) {
    this.#plugin = plugin;
    this.#loader = loader;
    this.#manager = loader.backgroundManager;
    this.#census = census;
    this.#timeline = timeline;
    this.name = plugin.manifest.name;
  }

  async start() {
    const { manifest, pluginPath } = this.#plugin;
    if (manifest.runtime === 'python3') {
      const begin = performance.now();
      const made = await this.#loader.environments.install(this.name);
      if (made) this.#tell(`environment made in ${since(begin)}`);
    }

    const starting = (e) => {
      if (e.pluginName === this.name && e.to === ProcessState.STARTING) this.#tell('starting');
    };
    this.#manager.on('stateChange', starting);
    try {
      const begin = performance.now();
      await within(READY, `${this.name}: the start`, this.#loader.loadPlugin(manifest, pluginPath));
      const took = since(begin);
      this.#tell(`ready in ${took}: ${await this.#lookAtProcesses()}`, 'green');
    } finally {
      this.#manager.off('stateChange', starting);
    }
  }

  async beAsked(when = 'first') {
    const { request, tell } = QUESTIONS[this.name][when];
    const { socketPath } = this.#manager.getProcessInfo(this.name).config;
    this.#tell(tell(await ask(socketPath, request)));
  }

  async beHealthy() {
    const { latency } = await this.#event('health', 'a health check that passes', ({ healthy }) => healthy);
    this.#tell(`healthy: accepted a connection within ${latency.toFixed(1)} ms`, 'green');
  }

  async beKilled() {
    await this.#beReplaced('SIGKILL', 'killed', 'crashed', 'back');
  }

  async hang() {
    const failing = (e) => {
      if (e.pluginName === this.name && !e.healthy) this.#tell(`failed health check ${e.failures}: ${e.error}`, 'yellow');
    };
    this.#manager.on('health', failing);
    try {
      // Its socket is still there, and the kernel still connects whoever comes.
      await this.#beReplaced('SIGSTOP', 'hung', 'unhealthy', 'replaced');
    } finally {
      this.#manager.off('health', failing);
    }
  }

  async stop() {
    await this.#lookAtProcesses();
    const begin = performance.now();
    await within(SOON, `${this.name}: the stop`, this.#manager.stopProcess(this.name));
    this.#tell(`stopped in ${since(begin)}`, 'green');
    await this.#nothingLeftOf(this.#census.of(this.name));
  }

  /** Does `signal` to the daemon, sees it end for this `reason`, and a new one in its place. */
  async #beReplaced(signal, what, reason, outcome) {
    const old = this.#manager.getPid(this.name);
    await this.#lookAtProcesses();
    const before = this.#census.of(this.name);

    const begin = performance.now();
    const ended = this.#event('exit', 'the end of the old process', ({ pid }) => pid === old).then((exit) => {
      if (exit.reason !== reason) throw new Error(`${this.name}: the old process ended as '${exit.reason}', not '${reason}'`);
      this.#tell(`its end is noticed after ${since(begin)} (${exit.reason}, ${exit.signal ?? `code ${exit.code}`})`);
    });
    const scheduled = this.#event('restart', 'the restart').then(({ attempt, delay }) => {
      this.#tell(`restart ${attempt} in ${Math.round(delay)} ms`);
    });
    const isRunning = ({ to }) => to === ProcessState.RUNNING;
    const back = this.#event('stateChange', 'the return', isRunning).then(() => since(begin));
    this.#tell(`${what}: ${signal} to pid ${old}`, 'red');
    process.kill(old, signal);
    const [took] = await Promise.all([back, ended, scheduled]);

    const processes = await this.#lookAtProcesses();
    if (this.#manager.getPid(this.name) === old) throw new Error(`${this.name}: still has its old pid ${old}`);
    this.#tell(`${outcome} after ${took}: ${processes}`, 'green');
    await this.#nothingLeftOf(before);
    await this.beAsked('again');
  }

  async #lookAtProcesses() {
    const pid = this.#manager.getPid(this.name);
    const count = await this.#census.noteDaemon(this.name, pid);
    if (count === 0) throw new Error(`${this.name}: there is no process ${pid}`);
    return `pid ${pid}${count > 1 ? ` and ${count - 1} more that it started` : ''}`;
  }

  async #nothingLeftOf(processes) {
    const left = await this.#census.leftOf(processes);
    if (left.length > 0) throw new Error(`${this.name}: left behind: ${left.map(describe).join(', ')}`);
  }

  /** To be called before whatever causes the event. */
  #event(event, what, matches = () => true) {
    const ours = (payload) => payload.pluginName === this.name && matches(payload);
    return nextEvent(this.#manager, event, SOON, `${this.name}: ${what}`, ours);
  }

  #tell(what, colour) {
    this.#timeline.tell(this.name, what, colour);
  }
}

export function describe({ pid, command }) {
  return `${command} (pid ${pid})`;
}

function since(begin) {
  const ms = performance.now() - begin;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}
