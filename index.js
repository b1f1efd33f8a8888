'use strict';
// What people require: EventEmitter, Errors and Dates of the caller's own realm, the snapshot of
// process.env, and promises for the native half's tickets. No lifecycle logic.

const { EventEmitter } = require('node:events');
const { performance } = require('node:perf_hooks');
// Not the globals: a test's fake timers would keep for themselves what is due.
const { setImmediate } = require('node:timers');

const { NativeManager, guardian } = require('./native.js');
const { PLUGIN_TIMEOUTS, ProcessState } = require('./lib/constants.js');
const { makeError, invalidConfig, printable } = require('./lib/errors.js');
const { environment, managerOptions, processInfo, readConfig, wantsDebug } = require('./lib/convert.js');
const { configFromManifest } = require('./lib/manifest.js');

const TAIL_LINES = 1000;
const STATES = NativeManager.states();
const clock = performance.now.bind(performance);

/**
 * Managers with something going on. The native half holds only a weak reference to its face, so that
 * an idle manager can be collected; a busy one must not be, or its daemons would be stopped.
 */
const busy = new Set();

class BackgroundProcessManager extends EventEmitter {
  #native;
  #logger;
  /** Whether the logger reads lines at debug. */
  #debug;
  /** Ticket to the promise that waits for it. */
  #waiting = new Map();
  /** Plugin name to the configuration as it was given. */
  #configs = new Map();
  /** Plugin name to what the native half told last: asking for a number is cheaper than asking for all. */
  #known = new Map();
  /** Messages that are being delivered, and those behind one whose listener threw. */
  #inbox = [];

  constructor(options) {
    super();
    const { envsDir, logger, onOwnerDeath } = managerOptions(options);
    const self = new WeakRef(this);
    this.#logger = logger;
    this.#debug = wantsDebug(logger);
    this.#native = new NativeManager(
      {
        envsDir,
        keepOnOwnerDeath: onOwnerDeath === 'keep',
        guardian,
        hasLogger: logger !== undefined,
        debug: this.#debug,
        logFilter: process.env.ALLY_LOG,
      },
      () => self.deref()?.#takeMessages(),
      { hasRef: () => self.deref()?.#native.isHolding() ?? false },
    );
  }

  async startProcess(config, options) {
    const given = readConfig(config);
    const signal = abortSignal(options, given?.pluginName);
    if (signal?.aborted) {
      // The configuration comes first: a wrong one is wrong whoever has lost interest.
      const wrong = NativeManager.checkConfig(given);
      if (wrong) throw invalidConfig(wrong.field, wrong.problem, given?.pluginName);
      throw signal.reason;
    }
    this.#followLevel();
    const { ticket, taken, failure } = this.#native.start(given, environment(given?.pluginName));
    if (failure) throw makeError(failure);
    const { pluginName } = given;
    if (taken) this.#configs.set(pluginName, given);
    const settled = this.#settled(ticket);
    const abort = () => this.#native.abort(pluginName, ticket);
    try {
      signal?.addEventListener('abort', abort, { once: true });
    } catch {
      // No signal that could be listened to: as good as none.
    }
    try {
      await settled;
    } catch (error) {
      throw signal?.aborted && error.code === 'ERR_STOPPED' ? signal.reason : error;
    } finally {
      signal?.removeEventListener?.('abort', abort);
    }
  }

  async stopProcess(pluginName) {
    await this.#settled(this.#native.stop(nameOf(pluginName)));
  }

  async stopAllProcesses() {
    await this.#settled(this.#native.stopAll());
  }

  async restartProcess(pluginName) {
    await this.#settled(this.#native.restart(nameOf(pluginName)));
  }

  isRunning(pluginName) {
    return this.getState(pluginName) === ProcessState.RUNNING;
  }

  getState(pluginName) {
    return typeof pluginName === 'string' ? STATES[this.#native.state(pluginName)] : undefined;
  }

  getPid(pluginName) {
    return typeof pluginName === 'string' ? (this.#native.pid(pluginName) ?? undefined) : undefined;
  }

  getProcessInfo(pluginName) {
    const revision = typeof pluginName === 'string' ? this.#native.revision(pluginName) : 0;
    if (revision === 0) return undefined;
    let known = this.#known.get(pluginName);
    if (known?.info.revision !== revision) {
      const info = this.#native.info(pluginName);
      if (!info) return undefined;
      known = { info, at: clock() };
      this.#known.set(pluginName, known);
    }
    return processInfo(known.info, clock() - known.at, this.#configs.get(pluginName));
  }

  listProcesses() {
    // Spread: the native array is of the realm that loaded the addon.
    return [...this.#native.names()].map((pluginName) => this.getProcessInfo(pluginName));
  }

  forgetProcess(pluginName) {
    const forgotten = typeof pluginName === 'string' && this.#native.forget(pluginName);
    if (forgotten) [this.#configs, this.#known].forEach((map) => map.delete(pluginName));
    return forgotten;
  }

  getOutput(pluginName, lines = TAIL_LINES) {
    const count = Math.min(Math.max(Math.trunc(Number(lines)) || 0, 0), TAIL_LINES);
    return typeof pluginName === 'string' ? [...this.#native.output(pluginName, count)] : [];
  }

  ref() {
    this.#native.attach(true);
    return this;
  }

  unref() {
    this.#native.attach(false);
    return this;
  }

  async upgradeProcess(pluginName) {
    throw invalidConfig('upgradeProcess', 'is not supported yet', pluginName);
  }

  async startGroup() {
    throw invalidConfig('startGroup', 'is not supported yet');
  }

  async stopGroup() {
    throw invalidConfig('stopGroup', 'is not supported yet');
  }

  getMetrics(pluginName) {
    throw invalidConfig('getMetrics', 'is not supported yet', pluginName);
  }

  metricsText() {
    throw invalidConfig('metricsText', 'is not supported yet');
  }

  // Lines of output and health checks are carried over only while someone listens. Every way to add or remove a
  // listener goes through one of these five.

  on(event, listener) {
    return this.#listening(super.on(event, listener));
  }

  addListener(event, listener) {
    return this.#listening(super.addListener(event, listener));
  }

  prependListener(event, listener) {
    return this.#listening(super.prependListener(event, listener));
  }

  removeListener(event, listener) {
    return this.#listening(super.removeListener(event, listener));
  }

  off(event, listener) {
    return this.#listening(super.off(event, listener));
  }

  removeAllListeners(...event) {
    return this.#listening(super.removeAllListeners(...event));
  }

  #listening(result) {
    // EventEmitter's own constructor may come here before there is anything native.
    if (#native in this && this.#native) this.#native.listen(this.listenerCount('output') > 0, this.listenerCount('health') > 0);
    return result;
  }

  #settled(ticket) {
    busy.add(this);
    return new Promise((resolve, reject) => this.#waiting.set(ticket, { resolve, reject }));
  }

  /** A logger may change its level at any time; it is asked at every start and whenever there is news. */
  #followLevel() {
    const debug = wantsDebug(this.#logger);
    if (debug === this.#debug) return;
    this.#debug = debug;
    this.#native.logDebug(debug);
  }

  #takeMessages() {
    this.#inbox.push(...this.#native.take());
    this.#followLevel();
    // A flood must not keep the event loop from everything else.
    if (this.#native.hasMore()) setImmediate(() => this.#takeMessages());
    if (this.#native.isBusy()) busy.add(this);
    else busy.delete(this);
    this.#deliver();
  }

  #deliver() {
    const messages = this.#inbox;
    this.#inbox = [];
    let next = 0;
    try {
      while (next < messages.length) this.#deliverOne(messages[next++]);
    } finally {
      if (next < messages.length) {
        // A listener threw, which is the program's affair; the others hear of the rest all the same.
        this.#inbox = messages.slice(next).concat(this.#inbox);
        setImmediate(() => this.#deliver());
      }
    }
  }

  #deliverOne(message) {
    switch (message.kind) {
      case 'settled': {
        const { resolve, reject } = this.#waiting.get(message.ticket);
        this.#waiting.delete(message.ticket);
        if (message.failure) reject(makeError(message.failure));
        else resolve();
        break;
      }
      case 'log':
        this.#log(message);
        break;
      case 'stateChange':
        this.emit('stateChange', { ...pick(message, 'pluginName', 'from', 'to', 'pid', 'reason'), at: new Date(message.at) });
        break;
      case 'exit':
        this.emit('exit', pick(message, 'pluginName', 'pid', 'code', 'signal', 'reason'));
        break;
      case 'restart':
        this.emit('restart', pick(message, 'pluginName', 'attempt', 'delay', 'reason'));
        break;
      case 'health':
        this.emit('health', pick(message, 'pluginName', 'healthy', 'latency', 'failures', 'error'));
        break;
      case 'output':
        this.emit('output', pick(message, 'pluginName', 'stream', 'line'));
        break;
    }
  }

  #log({ level, text, fields }) {
    const details = {};
    for (let index = 0; index < fields.length; index += 2) {
      const [name, value] = fields.slice(index, index + 2);
      if (name === 'plugin') details.pluginName = value;
      else details[name] = /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
    }
    const message = printable(details.pluginName === undefined ? text : `${details.pluginName}: ${text}`);
    this.#logger?.[level === 'trace' ? 'debug' : level](message, details);
  }
}

Object.defineProperty(BackgroundProcessManager.prototype, Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose'), {
  value() {
    return this.stopAllProcesses();
  },
  writable: true,
  configurable: true,
});

/** Only what is there: an event has no `pid: undefined`. */
function pick(from, ...keys) {
  return Object.fromEntries(keys.filter((key) => from[key] !== undefined && from[key] !== null).map((key) => [key, from[key]]));
}

function nameOf(pluginName) {
  if (typeof pluginName !== 'string') throw invalidConfig('pluginName', 'must be a string');
  return pluginName;
}

function abortSignal(options, pluginName) {
  if (options === undefined) return undefined;
  if (typeof options !== 'object' || options === null) throw invalidConfig('options', 'must be an object', pluginName);
  const { signal } = options;
  // By what it can do: a signal of another realm is as good.
  if (signal !== undefined && (typeof signal?.addEventListener !== 'function' || typeof signal.aborted !== 'boolean')) {
    throw invalidConfig('options.signal', 'must be an AbortSignal', pluginName);
  }
  return signal;
}

module.exports.BackgroundProcessManager = BackgroundProcessManager;
module.exports.ProcessState = ProcessState;
module.exports.PLUGIN_TIMEOUTS = PLUGIN_TIMEOUTS;
module.exports.configFromManifest = configFromManifest;
