'use strict';
// Stands in for the addon where there is none for this platform. A program that never starts a daemon works as with the addon:
// managers are made, and their getters answer as for an unknown plugin. The texts are those of
// crates/core/src/error/text.rs and config/parse.rs.

const path = require('node:path');

// Not the global, because a test's fake timers would never run the callback.
const { setImmediate } = require('node:timers');

/**
 * The native manager of a package without an addon. `problem`: why there is none. `file`: the addon that was looked for. `cause`: the
 * error of its load.
 */
function withoutAddon(problem, file, cause) {
  const unsupported = (message, pluginName) => ({
    code: 'ERR_UNSUPPORTED',
    message: printable(message),
    pluginName,
    path: file,
    cause: cause && [{ ...cause, message: printable(cause.message) }],
  });

  return class NativeManager {
    #wake;
    #settled = [];
    #tickets = 0;

    constructor(_, wake) {
      this.#wake = wake;
    }

    start(config) {
      const name = typeof config?.pluginName === 'string' && config.pluginName !== '' ? config.pluginName : undefined;
      const message = `Failed to start background process${name === undefined ? '' : ` '${name}'`}: ${problem}`;
      return { accepted: false, failure: unsupported(message, name) };
    }

    startGroup() {
      return { jobs: [], failure: unsupported(`Failed to start the group: ${problem}`) };
    }

    /** No plugin is known, so no call gets here. */
    upgrade(config) {
      return this.start(config);
    }

    stop() {
      return this.#settle();
    }

    endLeftovers(pluginName) {
      const message = printable(`Failed to stop background process '${pluginName}': ${problem}`);
      return { accepted: false, failure: { code: 'ERR_UNSUPPORTED', message, pluginName, path: file } };
    }

    endByForce(pluginName) {
      return this.endLeftovers(pluginName);
    }

    restartShared(pluginName) {
      return this.endLeftovers(pluginName);
    }

    endHost() {
      return { accepted: false, failure: unsupported(problem) };
    }

    viewHost() {
      return { plugins: [], failure: unsupported(problem) };
    }

    watchShared() {
      return undefined;
    }

    stopGroup() {
      return this.#settle();
    }

    stopAll() {
      return this.#settle();
    }

    restart(pluginName) {
      return this.#settle(NativeManager.notFound(pluginName));
    }

    whenRunning(pluginName) {
      return this.restart(pluginName);
    }

    abortWait() {}

    revoke() {
      return this.#settle();
    }

    /** The ticket of a call that is settled in the next turn of the event loop. */
    #settle(failure) {
      const ticket = ++this.#tickets;
      this.#settled.push({ kind: 'settled', ticket, failure });
      setImmediate(this.#wake);
      return ticket;
    }

    take() {
      return this.#settled.splice(0);
    }

    hasMore() {
      return false;
    }

    isBusy() {
      return this.#settled.length > 0;
    }

    isHolding() {
      return false;
    }

    state() {
      return -1;
    }

    pid() {
      return undefined;
    }

    revision() {
      return 0;
    }

    info() {
      return undefined;
    }

    names() {
      return [];
    }

    output() {
      return [];
    }

    follow() {
      return undefined;
    }

    static notFound(pluginName) {
      const message = printable(`Process '${pluginName}' is not known to this manager`);
      return { code: 'ERR_NOT_FOUND', message, pluginName };
    }

    metrics() {
      return undefined;
    }

    metricsText(openMetrics) {
      return openMetrics ? '# EOF\n' : '';
    }

    allMetrics() {
      return [];
    }

    forget() {
      return false;
    }

    abort() {}

    attach() {}

    listen() {}

    logDebug() {}

    static observe(_, pluginNames) {
      const unknown = { problem, holder: 'nobody', generations: [], unidentifiedLives: false };
      return pluginNames.map((pluginName) => ({ pluginName, ...unknown }));
    }

    static systemProblems() {
      return {};
    }

    static killTrees() {}

    static states() {
      return [];
    }

    /** Only the key that an error needs. The addon has the whole list. */
    static keys() {
      return { config: ['pluginName'], options: undefined, unbuiltOptions: [] };
    }

    /** The addon checks a configuration. Without it, startProcess refuses every configuration. */
    static checkConfig() {
      return undefined;
    }

    static nameProblem(name) {
      const problem = textProblem(name);
      if (problem) return problem;
      const bytes = Buffer.byteLength(name);
      if (bytes > 255) return `must be at most 255 bytes long, got ${bytes}`;
      if (name === '.' || name === '..' || name.includes('/')) return "must be a plain folder name: not '.' or '..', and without '/'";
      return undefined;
    }

    static pathProblem(given) {
      return textProblem(given) ?? (path.isAbsolute(given) ? undefined : 'must be an absolute path');
    }

    static invalidConfig(field, problem, pluginName) {
      const plugin = pluginName ? ` for background process '${pluginName}'` : '';
      const message = printable(`Invalid configuration${plugin}: ${field} ${problem}`);
      return { code: 'ERR_INVALID_CONFIG', message, pluginName: pluginName || undefined };
    }
  };
}

function textProblem(value) {
  if (value === undefined) return 'is required and must be a string';
  if (typeof value !== 'string') return `must be a string, got ${kindOf(value)}`;
  if (value === '') return 'must not be empty';
  return value.includes('\0') ? 'must not contain NUL' : undefined;
}

function kindOf(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

/** As printable() of crates/base/src/text.rs. */
function printable(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove
  return text.replaceAll('\t', ' ').replace(/\x1b\[[ -?]*[@-~]?|[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '');
}

module.exports = { printable, withoutAddon };
