'use strict';

const path = require('node:path');

const { defaultEnvsDir } = require('./home.js');
const { invalidConfig } = require('./errors.js');

/** As deep as any configuration is; what goes round in a circle ends here and is refused natively. */
const DEPTH = 4;

/**
 * A frozen copy of plain data. What is no plain data is kept as it is, for the checks to name; only what would
 * seem empty (a Map) is refused here. `refuse` is told the field and the problem, and throws.
 */
function copyPlain(value, refuse, at = '', depth = 0) {
  if (typeof value !== 'object' || value === null || depth > DEPTH) return value;
  if (Array.isArray(value)) return Object.freeze(value.map((item, index) => copyPlain(item, refuse, `${at}[${index}]`, depth + 1)));
  const kind = builtIn(value);
  if (kind) refuse(at || 'config', `must be plain data, got ${kind}`);
  const copy = {};
  // Inherited properties count: a configuration may be an instance of somebody's class.
  for (const key in value) {
    const item = copyPlain(value[key], refuse, at ? `${at}.${key}` : key, depth + 1);
    // Defined, not assigned: a variable may be called __proto__.
    Object.defineProperty(copy, key, { value: item, enumerable: true, configurable: true, writable: true });
  }
  return Object.freeze(copy);
}

/** What keeps its contents where no property shows them, by name; undefined for everything else. */
function builtIn(value) {
  const kind = Object.prototype.toString.call(value).slice('[object '.length, -1);
  return /^(Map|Set|WeakMap|WeakSet|Date|RegExp|Promise|ArrayBuffer|Boolean|Number|String)$/.test(kind) ? `a ${kind}` : undefined;
}

/**
 * The caller's environment at this moment, as KEY=VALUE with a NUL behind each. Taken here because
 * jest's and a worker's process.env never reach the real environment, and because reading that one
 * from another thread races with whoever writes it.
 */
function environment() {
  const { env } = process;
  let text = '';
  for (const key of Object.keys(env)) text += `${key}=${env[key]}\0`;
  return text;
}

function managerOptions(options = {}) {
  if (typeof options !== 'object' || options === null) throw invalidConfig('options', 'must be an object');
  const { envsDir, logger, onOwnerDeath = 'stop' } = options;
  if (envsDir !== undefined && (typeof envsDir !== 'string' || !path.isAbsolute(envsDir) || envsDir.includes('\0'))) {
    throw invalidConfig('envsDir', 'must be an absolute path');
  }
  if (onOwnerDeath !== 'stop' && onOwnerDeath !== 'keep') throw invalidConfig('onOwnerDeath', "must be one of 'stop', 'keep'");
  if (logger !== undefined) {
    for (const level of ['debug', 'info', 'warn', 'error']) {
      if (typeof logger?.[level] !== 'function') throw invalidConfig('logger', `must have a method ${level}`);
    }
  }
  return { envsDir: envsDir ?? defaultEnvsDir((problem) => { throw invalidConfig('envsDir', problem); }), logger, onOwnerDeath };
}

/**
 * The native snapshot as the public surface has it: Dates for times, nothing that isn't there.
 * `age`: milliseconds since it was taken, in which it has not changed.
 */
function processInfo(native, age, config) {
  const info = {
    state: native.state,
    config,
    failedHealthChecks: native.failedHealthChecks,
    restartAttempts: native.restartAttempts,
    lastStateChange: new Date(native.lastStateChange),
    totalRestarts: native.totalRestarts,
  };
  if (is(native.pid)) info.pid = native.pid;
  if (is(native.lastError)) info.lastError = native.lastError;
  if (is(native.uptime)) info.uptime = native.uptime + age;
  if (is(native.nextRestartAt)) info.nextRestartAt = new Date(native.nextRestartAt);
  if (native.lastExit) {
    const { pid, code, signal, at, reason } = native.lastExit;
    info.lastExit = { pid, at: new Date(at), reason };
    if (is(code)) info.lastExit.code = code;
    if (is(signal)) info.lastExit.signal = signal;
  }
  return Object.freeze(info);
}

/** Whether it is there: native code may say null for what is not. */
const is = (value) => value !== undefined && value !== null;

module.exports = { builtIn, copyPlain, environment, managerOptions, processInfo };
