'use strict';
// The manager: an EventEmitter, and promises for the tickets of the native manager. The lifecycle is in crates/core.

const { EventEmitter } = require('node:events');
// Not the globals, because a test's fake timers would never run the callback.
const { setImmediate, setTimeout } = require('node:timers');

const { NativeManager, guardian } = require('../native.js');
const { ProcessState } = require('./constants.js');

/**
 * The exports of the modules that the first constructor requires. At the load of the package they would lengthen the load
 * time. At the first use they could fail: a start with EMFILE must reject with its own error and not with that of require,
 * and jest refuses require after the end of a test file.
 */
const lib = {};

function requireLib() {
  if (lib.copyConfig) return;
  Object.assign(lib, require('./options.js'), require('./errors.js'), require('./environment.js'), require('./logger.js'));
  Object.assign(lib, require('./messages.js'), require('./process-info.js'), require('./config-copy.js'), require('./configs.js'));
  Object.assign(lib, require('./channels.js'), require('./turn.js'), require('./changes.js'));
}

const TAIL_LINES = 1000;
const STATES = NativeManager.states();

/**
 * The managers with an unsettled call or a pending daemon. The native manager refers to its manager weakly, so that an idle
 * manager can be garbage-collected. If a busy manager were collected, its daemons would be stopped.
 */
const busy = new Set();

class BackgroundProcessManager extends EventEmitter {
  #native;
  #logger;
  /** Whether the logger reads debug entries. */
  #debug;
  /** Ticket to the resolve and reject of its promise. */
  #waiting = new Map();
  #configs;
  /** Plugin name to the last native snapshot. Comparing its revision is cheaper than copying a new snapshot. */
  #known = new Map();
  /** The number of a follower that waits for lines, to its iterator. */
  #followers = new Map();
  #inbox;
  /** Runs a call, and tells its channels. */
  #traced;
  /** Values for the keys that a configuration leaves absent. */
  #defaults;
  /** Whether running daemons keep the event loop alive: ref() and unref(). */
  #attached = true;

  constructor(given) {
    super();
    requireLib();
    const { envsDir, logger, onOwnerDeath, guardianPath, isPublished, defaults } = lib.managerOptions(given);
    this.#traced = isPublished ? lib.traced : (_, __, call) => call();
    this.#logger = logger;
    this.#defaults = defaults;
    this.#debug = lib.wantsDebug(logger);
    this.#configs = new lib.Configs();
    this.#inbox = new lib.Inbox((message) => {
      if (message.kind === 'settled') this.#settle(message);
      else if (message.kind === 'log') lib.writeEntry(this.#logger, message);
      else if (message.kind === 'lines') this.#followers.get(message.follower)?.read();
      else if (message.kind === 'upgraded') this.#upgradedByOther(message);
      else {
        const payload = lib.payloadOf(message);
        if (!payload) return;
        // Before the listeners, because one may throw.
        if (isPublished) lib.publishEvent(message.kind, payload);
        this.emit(message.kind, payload);
      }
    }, this.#nextTurn);
    this.#native = new NativeManager(
      {
        envsDir,
        keepOnOwnerDeath: onOwnerDeath === 'keep',
        guardian: guardianPath ?? guardian,
        hasLogger: logger !== undefined,
        debug: this.#debug,
        logFilter: process.env.ALLY_LOG,
      },
      ...BackgroundProcessManager.#weakCallbacks(new WeakRef(this)),
    );
  }

  /**
   * What the addon calls. A function of its own, because all closures of one function share their context: beside one that uses
   * `this` in the constructor these would hold the manager, and an idle manager could never be collected.
   */
  static #weakCallbacks(self) {
    return [() => self.deref()?.#takeMessages(), { hasRef: () => self.deref()?.#native.isHolding() ?? false }];
  }

  /**
   * Why a method can't run without its manager, as in `const { startProcess } = manager`. `#native in this` alone throws where
   * `this` is no object.
   */
  static #withoutManager(self, method) {
    if (typeof self === 'object' && self !== null && #native in self) return undefined;
    // No manager may exist yet.
    requireLib();
    return lib.withoutManager(method);
  }

  startProcess(config, callOptions) {
    const lost = BackgroundProcessManager.#withoutManager(this, 'startProcess');
    if (lost) return Promise.reject(lost);
    return this.#traced(
      'start',
      () => config?.pluginName,
      () => this.#start(config, callOptions),
    );
  }

  async #start(config, callOptions) {
    const { given, unread, builtIns } = lib.copyConfig(config);
    const whole = lib.withDefaults(given, this.#defaults);
    const signal = lib.abortSignal(callOptions, given?.pluginName);
    if (lib.isAborted(signal)) {
      // The check of the configuration comes before the signal: a wrong configuration is reported in any case.
      const wrong = NativeManager.checkConfig(whole, builtIns);
      if (wrong) throw lib.invalidConfig(wrong.field, wrong.problem, given?.pluginName);
      throw lib.reasonOf(signal, lib.unreadable('options.signal.reason', given?.pluginName));
    }
    this.#followLevel();
    const variables = lib.environment(given?.pluginName);
    const { ticket, accepted, failure } = this.#native.start(whole, unread, builtIns, variables, lib.currentTurn());
    if (failure) throw lib.makeError(failure);
    const { pluginName } = given;
    if (accepted) this.#configs.add(pluginName, ticket, given);
    try {
      await this.#untilAborted(signal, this.#settled(ticket), () => this.#native.abort(pluginName, ticket));
    } catch (error) {
      this.#startFailed(pluginName, ticket);
      throw error.code === 'ERR_STOPPED' && lib.isAborted(signal) ? lib.reasonOf(signal, error) : error;
    }
    this.#callSettled(pluginName, ticket);
    if (!lib.isAborted(signal)) return;
    // The abort came after readiness, and before this promise settled: a stop. A failure of the stop is in `lastError`.
    await this.#settled(this.#native.revoke(pluginName, ticket)).catch(() => {});
    throw lib.reasonOf(signal, lib.unreadable('options.signal.reason', pluginName));
  }

  /** The plugin has the configuration that the native manager names: this call's, a former one's, or none. */
  #callSettled(pluginName, job) {
    this.#configs.settled(pluginName, job, this.#native.info(pluginName)?.job);
  }

  /** A start that was refused before it changed anything has left the former configuration in use, or none. */
  #startFailed(pluginName, job) {
    this.#callSettled(pluginName, job);
    // Of an unknown plugin the native manager still has the refused configuration.
    if (this.getState(pluginName) === undefined) this.#native.forget(pluginName);
  }

  /** Waits for `settled`. An abort of the signal in that time calls `abort`. */
  async #untilAborted(signal, settled, abort) {
    try {
      signal?.addEventListener('abort', abort, { once: true });
    } catch {
      // If addEventListener throws, the signal is ignored.
    }
    try {
      await settled;
    } finally {
      try {
        signal?.removeEventListener?.('abort', abort);
      } catch {
        // As above.
      }
    }
  }

  stopProcess(pluginName, callOptions) {
    const lost = BackgroundProcessManager.#withoutManager(this, 'stopProcess');
    if (lost) return Promise.reject(lost);
    return this.#traced(
      'stop',
      () => pluginName,
      () => this.#stop(pluginName, callOptions),
    );
  }

  async #stop(pluginName, callOptions) {
    const name = nameOf(pluginName);
    // `names.map(manager.stopProcess, manager)` passes an index: what is no object has no option.
    const given = typeof callOptions === 'object' && callOptions !== null ? callOptions : undefined;
    const everywhere = lib.readOption(given, 'everywhere', 'options.everywhere', name) ?? false;
    if (typeof everywhere !== 'boolean') throw lib.invalidConfig('options.everywhere', 'must be a boolean', name);
    await this.#settled(this.#native.stop(name, everywhere));
  }

  async startGroup(configs) {
    const lost = BackgroundProcessManager.#withoutManager(this, 'startGroup');
    if (lost) throw lost;
    const copies = lib
      .copyConfigs(configs)
      .map(({ given, ...rest }) => ({ given, whole: lib.withDefaults(given, this.#defaults), ...rest }));
    if (copies.length === 0) return [];
    this.#followLevel();
    const of = (key) => copies.map((copy) => copy[key]);
    const parts = [of('whole'), of('unread'), of('builtIns'), lib.environment()];
    const { ticket, jobs, failure } = this.#native.startGroup(...parts, lib.currentTurn());
    if (failure) throw lib.makeError(failure);
    const accepted = copies.map(({ given }, index) => ({ given, job: jobs[index] })).filter(({ job }) => job > 0);
    for (const { given, job } of accepted) this.#configs.add(given.pluginName, job, given);
    try {
      const starts = await this.#settled(ticket);
      for (const { given, job } of accepted) this.#callSettled(given.pluginName, job);
      // Copied, because native objects belong to the realm that loaded the addon.
      return [...starts].map((start) => ({ ...start }));
    } catch (error) {
      for (const { given, job } of accepted) this.#startFailed(given.pluginName, job);
      throw error;
    }
  }

  async stopGroup(group) {
    const lost = BackgroundProcessManager.#withoutManager(this, 'stopGroup');
    if (lost) throw lost;
    if (typeof group !== 'string' || group === '') throw lib.invalidConfig('group', 'must be a string that is not empty');
    await this.#settled(this.#native.stopGroup(group));
  }

  stopAllProcesses() {
    const lost = BackgroundProcessManager.#withoutManager(this, 'stopAllProcesses');
    if (lost) return Promise.reject(lost);
    return this.#traced(
      'stop',
      () => undefined,
      async () => void (await this.#settled(this.#native.stopAll())),
    );
  }

  restartProcess(pluginName) {
    const lost = BackgroundProcessManager.#withoutManager(this, 'restartProcess');
    if (lost) return Promise.reject(lost);
    return this.#traced(
      'restart',
      () => pluginName,
      async () => void (await this.#settled(this.#native.restart(nameOf(pluginName)))),
    );
  }

  upgradeProcess(pluginName, changes) {
    const lost = BackgroundProcessManager.#withoutManager(this, 'upgradeProcess');
    if (lost) return Promise.reject(lost);
    return this.#traced(
      'upgrade',
      () => pluginName,
      async () => this.#upgrade(nameOf(pluginName), changes),
    );
  }

  async #upgrade(pluginName, changes = {}) {
    const { given: changed, unread, builtIns } = lib.copyConfig(changes, 'changes');
    if (typeof changed !== 'object' || changed === null || Array.isArray(changed))
      throw lib.invalidConfig('changes', 'must be an object', pluginName);
    const { config } = this.getProcessInfo(pluginName) ?? {};
    if (!config) throw lib.makeError(NativeManager.notFound(pluginName));
    if ((changed.pluginName ?? pluginName) !== pluginName)
      throw lib.invalidConfig('pluginName', "can't be changed by an upgrade", pluginName);
    const given = Object.freeze({ ...config, ...changed, pluginName });
    this.#followLevel();
    const whole = lib.withDefaults(given, this.#defaults);
    const forOthers = whole.shared ? lib.packChanges(changed) : [];
    const rest = { variables: lib.environment(pluginName), turn: lib.currentTurn(), changes: forOthers };
    const { ticket, accepted, failure } = this.#native.upgrade(whole, unread, builtIns, rest);
    if (failure) throw lib.makeError(failure);
    if (accepted) this.#configs.add(pluginName, ticket, given);
    try {
      await this.#settled(ticket);
    } finally {
      this.#callSettled(pluginName, ticket);
    }
  }

  /** Another session has upgraded a shared daemon: the changed fields are those of this session's configuration as well. */
  #upgradedByOther({ pluginName, fields }) {
    const job = this.#native.info(pluginName)?.job;
    const config = this.#configs.of(pluginName, job);
    // What is each session's own stays.
    const { group: _group, dependsOn: _dependsOn, startupTimeout: _timeout, shared: _shared, ...changes } = lib.unpackChanges(fields);
    if (config) this.#configs.replace(pluginName, job, Object.freeze({ ...config, ...changes, pluginName }));
  }

  async whenRunning(pluginName, callOptions) {
    const lost = BackgroundProcessManager.#withoutManager(this, 'whenRunning');
    if (lost) throw lost;
    const name = nameOf(pluginName);
    const signal = lib.abortSignal(callOptions, name);
    const reason = (error) => lib.reasonOf(signal, error ?? lib.unreadable('options.signal.reason', name));
    if (lib.isAborted(signal)) throw reason();
    const ticket = this.#native.whenRunning(name);
    try {
      await this.#untilAborted(signal, this.#settled(ticket), () => this.#native.abortWait(name, ticket));
    } catch (error) {
      throw lib.isAborted(signal) ? reason(error) : error;
    }
    if (lib.isAborted(signal)) throw reason();
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
    return lib.publicInfo(known.info, lib.clock() - known.at, this.#configs.of(pluginName, known.info.job));
  }

  listProcesses() {
    // Spread, because the native array belongs to the realm that loaded the addon.
    return [...this.#native.names()].map((pluginName) => this.getProcessInfo(pluginName));
  }

  forgetProcess(pluginName) {
    const forgotten = typeof pluginName === 'string' && this.#native.forget(pluginName);
    if (forgotten) for (const map of [this.#configs, this.#known]) map.delete(pluginName);
    return forgotten;
  }

  getOutput(pluginName, lines = TAIL_LINES) {
    // Number() would call a method of an object, and throws for a symbol.
    const wanted = ['object', 'function', 'symbol'].includes(typeof lines) ? 0 : Number(lines);
    const count = Math.min(Math.max(Math.trunc(wanted) || 0, 0), TAIL_LINES);
    return typeof pluginName === 'string' ? [...this.#native.output(pluginName, count)] : [];
  }

  logs(pluginName, callOptions) {
    const { LogIterator, logOptions } = require('./logs.js');
    const name = nameOf(pluginName);
    const { lines, follow, signal } = logOptions(callOptions, name);
    const follower = this.#native.follow(name, lines, follow);
    if (!follower) throw lib.makeError(NativeManager.notFound(name));
    return new LogIterator(follower, signal, { followers: this.#followers, nextTurn: this.#nextTurn });
  }

  getMetrics(...pluginName) {
    // By the number of arguments: a name that is undefined by mistake is an unknown plugin, and not all plugins.
    if (pluginName.length === 0) return Array.from(this.#native.allMetrics(), lib.publicMetrics);
    const [name] = pluginName;
    const metrics = typeof name === 'string' ? this.#native.metrics(name) : undefined;
    return metrics ? lib.publicMetrics(metrics) : undefined;
  }

  metricsText(callOptions) {
    const format = lib.readOption(callOptions, 'format', 'options.format') ?? 'openmetrics';
    if (format !== 'openmetrics' && format !== 'prometheus')
      throw lib.invalidConfig('options.format', "must be one of 'openmetrics', 'prometheus'");
    return this.#native.metricsText(format === 'openmetrics');
  }

  ref() {
    return this.#attach(true);
  }

  unref() {
    return this.#attach(false);
  }

  #attach(on) {
    this.#attached = on;
    this.#native.attach(on);
    return this;
  }

  // Events 'output' and 'health' are sent only while they have listeners. EventEmitter adds and removes listeners only with
  // these six methods.

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
    // The constructor of EventEmitter may call this before the native manager exists.
    if (#native in this && this.#native) this.#native.listen(this.listenerCount('output') > 0, this.listenerCount('health') > 0);
    return result;
  }

  /** Waits for the answer to a call. The error is made after the wait, because its stack then leads to the caller's `await`. */
  async #settled(ticket) {
    busy.add(this);
    const { failure, starts } = await new Promise((resolve) => this.#waiting.set(ticket, resolve));
    if (failure) throw lib.makeError(failure);
    return starts;
  }

  #settle({ ticket, failure, starts }) {
    const resolve = this.#waiting.get(ticket);
    this.#waiting.delete(ticket);
    resolve({ failure, starts });
  }

  /** Reads the level of the logger, which may change at any time, at each start and with each batch of messages. */
  #followLevel() {
    const debug = lib.wantsDebug(this.#logger);
    if (debug === this.#debug) return;
    this.#debug = debug;
    this.#native.logDebug(debug);
  }

  /**
   * Runs a function in the next turn of the event loop. A flood of messages must not keep the event loop of an unref'd manager
   * alive, except while a call waits for its answer. An unref'd setImmediate would wait until another event ends the poll.
   */
  #nextTurn = (run) => {
    if (this.#attached || this.#waiting.size > 0) setImmediate(run);
    else setTimeout(run, 0).unref();
  };

  #takeMessages() {
    const messages = this.#native.take();
    this.#followLevel();
    // The rest waits for the next turn of the event loop, so that other callbacks run in between.
    if (this.#native.hasMore()) this.#nextTurn(() => this.#takeMessages());
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
