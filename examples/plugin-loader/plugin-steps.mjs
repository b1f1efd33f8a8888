import { ProcessState } from '../../index.js';
import { ask } from './client.mjs';
import { nextEvent, within } from './deadlines.mjs';

// Longer than any step takes on a busy machine.
const STEP_TIMEOUT = 10_000;
const START_TIMEOUT = 35_000;

// The requests to each plugin: `first` after the start, `again` after its daemon was replaced.
const REQUESTS = {
  search: {
    first: {
      request: { query: 'killed grace period' },
      describe: ({ hits: [hit] }) => `asked for "killed grace period": found in ${hit.file}, line ${hit.line}`,
    },
    again: {
      request: { query: 'killed grace period' },
      describe: ({ hits: [hit] }) => `finds it again in ${hit.file}, line ${hit.line}`,
    },
  },
  notes: {
    first: {
      request: { add: 'water the plants' },
      describe: ({ id }) => `asked to keep "water the plants": kept as note ${id}`,
    },
    again: {
      request: { list: true },
      describe: ({ notes: [note] }) => `still has its note "${note}"`,
    },
  },
};

/** The steps of the demo for one plugin. Each step prints its results, and rejects if a result is not as promised. */
export class PluginSteps {
  #plugin;
  #loader;
  #manager;
  #seen;
  #timeline;

  constructor(plugin, { loader, seen, timeline }) {
    this.#plugin = plugin;
    this.#loader = loader;
    this.#manager = loader.backgroundManager;
    this.#seen = seen;
    this.#timeline = timeline;
    this.name = plugin.manifest.name;
  }

  async start() {
    const { manifest, pluginPath } = this.#plugin;
    if (manifest.runtime === 'python3') {
      const begin = performance.now();
      const created = await this.#loader.environments.install(this.name);
      if (created) this.#print(`environment created in ${since(begin)}`);
    }

    const starting = (e) => {
      if (e.pluginName === this.name && e.to === ProcessState.STARTING) this.#print('starting');
    };
    this.#manager.on('stateChange', starting);
    try {
      const begin = performance.now();
      await within(START_TIMEOUT, `${this.name}: the start`, this.#loader.loadPlugin(manifest, pluginPath));
      const took = since(begin);
      if (this.isOnDemand) this.#print(`listens after ${took}, without a process`, 'green');
      else this.#print(`ready in ${took}: ${await this.#noteProcesses()}`, 'green');
    } finally {
      this.#manager.off('stateChange', starting);
    }
  }

  /** Whether the first connection starts the daemon. */
  get isOnDemand() {
    return this.#manager.getProcessInfo(this.name)?.config.start === 'onConnect';
  }

  async request(when = 'first') {
    const { request, describe } = REQUESTS[this.name][when];
    const { socketPath } = this.#manager.getProcessInfo(this.name).config;
    const wasRunning = this.#manager.isRunning(this.name);
    const begin = performance.now();
    const answer = await ask(socketPath, request);
    const took = since(begin);
    this.#print(describe(answer));
    if (!wasRunning) {
      await this.#manager.whenRunning(this.name);
      this.#print(`started by this connection, and answered after ${took}: ${await this.#noteProcesses()}`, 'green');
    }
  }

  async awaitHealthy() {
    const { latency } = await this.#event('health', 'a health check that passes', ({ healthy }) => healthy);
    this.#print(`healthy: accepted a connection within ${latency.toFixed(1)} ms`, 'green');
  }

  /** Nobody asks an idle daemon, so it ends, and the next request starts it again. */
  async idle() {
    await this.request('again');
    await this.#noteProcesses();
    const before = this.#seen.of(this.name);
    const begin = performance.now();
    await this.#event('stateChange', 'the stop of the idle daemon', ({ reason, to }) => reason === 'idle' && to === ProcessState.STOPPED);
    this.#print(`idle: stopped after ${since(begin)}, and listens without a process`, 'green');
    await this.#nothingLeftOf(before);
    await this.request('again');
  }

  async kill() {
    if (this.isOnDemand) await this.#killOnDemand();
    else await this.#awaitReplacement('SIGKILL', 'killed', 'crashed', 'back');
  }

  async hang() {
    const failing = (e) => {
      if (e.pluginName === this.name && !e.healthy) this.#print(`failed health check ${e.failures}: ${e.error}`, 'yellow');
    };
    this.#manager.on('health', failing);
    try {
      // A stopped daemon still has its socket, and the kernel still queues connections for it.
      await this.#awaitReplacement('SIGSTOP', 'hung', 'unhealthy', 'replaced');
    } finally {
      this.#manager.off('health', failing);
    }
  }

  async stop() {
    if (this.#manager.isRunning(this.name)) await this.#noteProcesses();
    const begin = performance.now();
    await within(STEP_TIMEOUT, `${this.name}: the stop`, this.#manager.stopProcess(this.name));
    this.#print(`stopped in ${since(begin)}`, 'green');
    await this.#nothingLeftOf(this.#seen.of(this.name));
  }

  /** Nobody uses the killed daemon, so none takes its place before the next request. */
  async #killOnDemand() {
    await this.request('again');
    const pid = this.#manager.getPid(this.name);
    await this.#noteProcesses();
    const before = this.#seen.of(this.name);
    const ended = this.#event('exit', 'the end of the process', (exit) => exit.pid === pid);
    this.#print(`killed: SIGKILL to pid ${pid}`, 'red');
    process.kill(pid, 'SIGKILL');
    await ended;
    await this.#nothingLeftOf(before);
    await this.request('again');
  }

  /** Sends `signal` to the leader. The daemon must end with this `reason`, and a new daemon must run in its place. */
  async #awaitReplacement(signal, action, reason, outcome) {
    const old = this.#manager.getPid(this.name);
    await this.#noteProcesses();
    const before = this.#seen.of(this.name);

    const begin = performance.now();
    const ended = this.#event('exit', 'the end of the old process', ({ pid }) => pid === old).then((exit) => {
      if (exit.reason !== reason) throw new Error(`${this.name}: the old process ended as '${exit.reason}', not '${reason}'`);
      this.#print(`its end is reported after ${since(begin)} (${exit.reason}, ${exit.signal ?? `code ${exit.code}`})`);
    });
    const scheduled = this.#event('restart', 'the restart').then(({ attempt, delay }) => {
      this.#print(`restart ${attempt} in ${Math.round(delay)} ms`);
    });
    const isRunning = ({ to }) => to === ProcessState.RUNNING;
    const back = this.#event('stateChange', 'the return', isRunning).then(() => since(begin));
    this.#print(`${action}: ${signal} to pid ${old}`, 'red');
    process.kill(old, signal);
    const [took] = await Promise.all([back, ended, scheduled]);

    const processes = await this.#noteProcesses();
    if (this.#manager.getPid(this.name) === old) throw new Error(`${this.name}: still has its old pid ${old}`);
    this.#print(`${outcome} after ${took}: ${processes}`, 'green');
    await this.#nothingLeftOf(before);
    await this.request('again');
  }

  async #noteProcesses() {
    const pid = this.#manager.getPid(this.name);
    const count = await this.#seen.noteDaemon(this.name, pid);
    if (count === 0) throw new Error(`${this.name}: there is no process ${pid}`);
    return `pid ${pid}${count > 1 ? `, ${count} processes` : ''}`;
  }

  async #nothingLeftOf(processes) {
    const left = await this.#seen.leftOf(processes);
    if (left.length > 0) throw new Error(`${this.name}: left behind: ${left.map(describe).join(', ')}`);
  }

  /** Call it before the action that causes the event. */
  #event(event, description, matches = () => true) {
    const ours = (payload) => payload.pluginName === this.name && matches(payload);
    return nextEvent(this.#manager, event, STEP_TIMEOUT, `${this.name}: ${description}`, ours);
  }

  #print(text, colour) {
    this.#timeline.print(this.name, text, colour);
  }
}

export function describe({ pid, command }) {
  return `${command} (pid ${pid})`;
}

function since(begin) {
  const ms = performance.now() - begin;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}
