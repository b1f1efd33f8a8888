'use strict';

const path = require('node:path');

const { defaultEnvsDir } = require('./home.js');
const { NativeManager } = require('../native.js');
const { invalidConfig, printable } = require('./errors.js');

/** As deep as any configuration is; what goes round in a circle ends here and is refused natively. */
const DEPTH = 4;

/**
 * A configuration as a frozen copy, read once: what is checked, used and shown later is the same, whatever getters there
 * are. What is no plain data stays as it is, for the checks to name.
 */
function readConfig(config) {
  /** What would seem empty to the checks (a Map), by field. */
  const odd = new Map();
  const given = copyPlain(config, odd, '', 0, (field) => {
    throw invalidConfig(field, "can't be read: what should give its value throws", nameIn(config));
  });
  if (odd.size > 0) refuseOdd(given, odd);
  return given;
}

/** Under a key that means nothing anything may stand. */
function refuseOdd(given, odd) {
  const refuse = (field, problem) => {
    throw invalidConfig(field, problem, nameIn(given));
  };
  for (const [field, kind] of odd) if (field === 'config') refuse(field, `must be plain data, got ${kind}`);
  const wrong = NativeManager.checkConfig(given);
  if (wrong) {
    // What is said to be missing may be missing because it is in there.
    const [at, kind] = [...odd].find(([field]) => wrong.field.startsWith(`${field}.`)) ?? [];
    refuse(at ?? wrong.field, at ? `must be plain data, got ${kind}` : wrong.problem);
  }
  const unknown = [...NativeManager.unknownKeys(given)];
  for (const [field, kind] of odd) {
    if (!unknown.some((key) => field === key || field.startsWith(`${key}.`) || field.startsWith(`${key}[`)))
      refuse(field, `must be plain data, got ${kind}`);
  }
}

function nameIn(config) {
  try {
    return config.pluginName;
  } catch {
    return undefined;
  }
}

function copyPlain(value, odd, at, depth, unreadable) {
  if (typeof value !== 'object' || value === null || depth > DEPTH) return value;
  const field = at || 'config';
  try {
    const kind = builtIn(value);
    if (kind) {
      odd.set(field, kind);
      return value;
    }
    if (Array.isArray(value))
      return Object.freeze(value.map((item, index) => copyPlain(item, odd, `${at}[${index}]`, depth + 1, unreadable)));
    const copy = {};
    // Inherited properties count: a configuration may be an instance of somebody's class.
    for (const key in value) {
      const below = at ? `${at}.${key}` : key;
      const item = copyPlain(read(value, key, below, unreadable), odd, below, depth + 1, unreadable);
      // Defined, not assigned: a variable may be called __proto__.
      Object.defineProperty(copy, key, { value: item, enumerable: true, configurable: true, writable: true });
    }
    return Object.freeze(copy);
  } catch (error) {
    if (error?.code === 'ERR_INVALID_CONFIG') throw error;
    return unreadable(field);
  }
}

function read(value, key, field, unreadable) {
  try {
    return value[key];
  } catch {
    // What it threw stays where it is: it may quote a secret.
    return unreadable(field);
  }
}

/** What keeps its contents where no property shows them, by name; undefined for everything else. */
function builtIn(value) {
  const kind = Object.prototype.toString.call(value).slice('[object '.length, -1);
  if (ArrayBuffer.isView(value)) return `a ${kind}`;
  return /^(Map|Set|WeakMap|WeakSet|Date|RegExp|Promise|ArrayBuffer|Boolean|Number|String)$/.test(kind) ? `a ${kind}` : undefined;
}

/**
 * The caller's environment at this moment, as KEY=VALUE with a NUL behind each. Taken here because
 * jest's and a worker's process.env never reach the real environment, and because reading that one
 * from another thread races with whoever writes it.
 */
function environment(pluginName) {
  const { env } = process;
  let text = '';
  for (const key of Object.keys(env)) {
    const given = env[key];
    // Somebody's own object in its place may hold anything, and another thread may take what was there a moment ago.
    if (given === undefined) continue;
    const value = String(given);
    // A worker's can hold what the system's can't.
    if (key.includes('\0') || value.includes('\0'))
      throw invalidConfig(`process.env.${printable(key)}`, 'must not contain NUL', pluginName);
    text += `${key}=${value}\0`;
  }
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
  return {
    envsDir:
      envsDir ??
      defaultEnvsDir((problem) => {
        throw invalidConfig('envsDir', problem);
      }),
    logger,
    onOwnerDeath,
  };
}

/** Whether this logger reads what is told at debug. One that doesn't say so does. */
function wantsDebug(logger) {
  try {
    return logger !== undefined && Boolean(logger.isLevelEnabled?.('debug') ?? true);
  } catch {
    return true;
  }
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

module.exports = { builtIn, environment, managerOptions, processInfo, readConfig, wantsDebug };
