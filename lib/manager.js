'use strict';
// The manager that callers use: an EventEmitter, and promises for the native half's tickets. No lifecycle logic.

const { EventEmitter } = require('node:events');
// Not the global: a test's fake timers would keep for themselves what is due.
const { setImmediate } = require('node:timers');

const { NativeManager, guardian } = require('../native.js');
const { ProcessState } = require('./constants.js');

/**
 * What a manager needs beside this file, from the files that the first constructor requires: loading the package is to read
 * as few as possible, and later may be too late. A start without a free descriptor has to fail as a start, not as a require,
 * and jest refuses a require after the end of a test file.
 */
const lib = {};

function requireLib() {
  if (lib.copyConfig) return;
  Object.assign(lib, require('./options.js'), require('./errors.js'), require('./environment.js'), require('./logger.js'));
  Object.assign(lib, require('./messages.js'), require('./process-info.js'), require('./config-copy.js'));
}

const TAIL_LINES = 1000;
const STATES = NativeManager.states();

/**
 * Managers with something going on. The native half refers to its manager weakly, so that an idle one can be collected. A
 * busy one must not be, or its daemons would be stopped.
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
  /** Plugin name to the last native snapshot: asking for its number is cheaper than asking for all of it. */
  #known = new Map();
  #inbox;

  constructor(given) {
    super();
    requireLib();
    const { envsDir, logger, onOwnerDeath } = lib.managerOptions(given);
    const self = new WeakRef(this);
    this.#logger = logger;
    this.#debug = lib.wantsDebug(logger);
    this.#inbox = new lib.Inbox((message) => {
      if (message.kind === 'settled') this.#settle(message);
      else if (message.kind === 'log') lib.writeEntry(this.#logger, message);
      else {
        const payload = lib.payloadOf(message);
        if (payload) this.emit(message.kind, payload);
      }
    });
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

  async startProcess(config, callOptions) {
    const { given, unread, builtIns } = lib.copyConfig(config);
    const signal = lib.abortSignal(callOptions, given?.pluginName);
    if (signal?.aborted) {
      // The configuration comes first: a wrong one is wrong whoever has lost interest.
      const wrong = NativeManager.checkConfig(given, builtIns);
      if (wrong) throw lib.invalidConfig(wrong.field, wrong.problem, given?.pluginName);
      throw signal.reason;
    }
    this.#followLevel();
    const variables = lib.environment(given?.pluginName);
    const { ticket, accepted, failure } = this.#native.start(given, unread, builtIns, variables);
    if (failure) throw lib.makeError(failure);
    const { pluginName } = given;
    if (accepted) this.#configs.set(pluginName, given);
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

  async stopProcess(pluginName, callOptions) {
    const name = nameOf(pluginName);
    const { everywhere = false } = lib.callOptions(callOptions, name);
    if (typeof everywhere !== 'boolean') throw lib.invalidConfig('options.everywhere', 'must be a boolean', name);
    if (everywhere) throw lib.notSupported('options.everywhere', name);
    await this.#settled(this.#native.stop(name));
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
      known = { info, at: lib.clock() };
      this.#known.set(pluginName, known);
    }
    return lib.publicInfo(known.info, lib.clock() - known.at, this.#configs.get(pluginName));
  }

  listProcesses() {
    // Spread: the native array is of the realm that loaded the addon.
    return [...this.#native.names()].map((pluginName) => this.getProcessInfo(pluginName));
  }

  forgetProcess(pluginName) {
    const forgotten = typeof pluginName === 'string' && this.#native.forget(pluginName);
    if (forgotten) for (const map of [this.#configs, this.#known]) map.delete(pluginName);
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

  // Declared, and not built yet.

  async whenRunning(pluginName) {
    throw lib.notSupported('whenRunning', pluginName);
  }

  async upgradeProcess(pluginName) {
    throw lib.notSupported('upgradeProcess', pluginName);
  }

  async startGroup() {
    throw lib.notSupported('startGroup');
  }

  async stopGroup() {
    throw lib.notSupported('stopGroup');
  }

  logs(pluginName) {
    throw lib.notSupported('logs', pluginName);
  }

  getMetrics(pluginName) {
    throw lib.notSupported('getMetrics', pluginName);
  }

  metricsText() {
    throw lib.notSupported('metricsText');
  }

  // Lines of output and health checks are carried over only while someone listens. Every way to add or remove a
  // listener goes through one of these six.

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

  #settle({ ticket, failure }) {
    const { resolve, reject } = this.#waiting.get(ticket);
    this.#waiting.delete(ticket);
    if (failure) reject(lib.makeError(failure));
    else resolve();
  }

  /** A logger may change its level at any time; it is asked at every start and whenever there is news. */
  #followLevel() {
    const debug = lib.wantsDebug(this.#logger);
    if (debug === this.#debug) return;
    this.#debug = debug;
    this.#native.logDebug(debug);
  }

  #takeMessages() {
    const messages = this.#native.take();
    this.#followLevel();
    // A flood must not keep the event loop from everything else.
    if (this.#native.hasMore()) setImmediate(() => this.#takeMessages());
    if (this.#native.isBusy()) busy.add(this);
    else busy.delete(this);
    this.#inbox.add(messages);
  }
}

Object.defineProperty(BackgroundProcessManager.prototype, Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose'), {
  value() {
    return this.stopAllProcesses();
  },
  writable: true,
  configurable: true,
});

function nameOf(pluginName) {
  if (typeof pluginName !== 'string') throw lib.invalidConfig('pluginName', 'must be a string');
  return pluginName;
}

module.exports = { BackgroundProcessManager };
