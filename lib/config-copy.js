'use strict';
// Copies a configuration. A getter could return another value at each call, so each value is read once, and the check, the
// start and getProcessInfo use the copy. Only the keys of crates/core/src/config/keys.rs are read; config/parse.rs checks
// their values.

const { isRegExp } = require('node:util').types;
const { NativeManager } = require('../native.js');
const { guarded, invalidConfig } = require('./errors.js');

const LIST = 'list';
const MAP = 'map';
/** In `defaults.logs.file`: the place of the plugin's name. */
const NAME = '{name}';

/** More items than execve(2) takes: with its NUL and its pointer an empty one needs 9 bytes of 6 MiB. */
const ITEMS_MAX = 1_000_000;

const GROUP_MAX = 10_000;

/** The unknown keys that are named, and the characters of each. */
const NAMED_KEYS_MAX = 20;
const KEY_LENGTH_MAX = 200;

/** A value's shape: undefined for a single value, LIST, MAP, or a Map of keys to shapes. */
let shape;

/** Builds the shape of a configuration from the paths of the addon: `restart.window.limit`, `args[]`, `envVars.*`. */
function shapeOf(paths) {
  const top = new Map();
  for (const path of paths) {
    let keys = top;
    const names = path.replace('[]', '').split('.');
    const last = names.pop();
    const map = last === '*' ? names.pop() : undefined;
    for (const name of names) {
      if (!keys.has(name)) keys.set(name, new Map());
      keys = keys.get(name);
    }
    if (map !== undefined) keys.set(map, MAP);
    else keys.set(last, path.endsWith('[]') ? LIST : undefined);
  }
  return top;
}

/**
 * `root`: the name of the object in errors. `given`: the frozen copy. `unread`: the paths of unknown keys. The copy has the own
 * data properties of unknown keys, and omits their accessors, because calling one may have side effects. `builtIns`: path and
 * kind, alternating, of Maps and similar objects with contents outside their properties.
 */
function copyConfig(config, root = 'config') {
  shape ??= shapeOf(NativeManager.keys().config);
  const copy = { config, root, unread: [], builtIns: [], name: undefined };
  return { given: copyValue(copy, config, shape, ''), unread: namedKeys(copy.unread), builtIns: copy.builtIns };
}

/** The copies of an array of configurations, as `copyConfig`. */
function copyConfigs(configs) {
  const items = guarded('configs', undefined, () => {
    if (!Array.isArray(configs)) throw invalidConfig('configs', 'must be an array of configurations');
    if (configs.length > GROUP_MAX) throw invalidConfig('configs', `must have at most ${GROUP_MAX} items, got ${configs.length}`);
    return Array.from(configs);
  });
  return items.map((config, index) => copyConfig(config, `configs[${index}]`));
}

/** The keys as a warning names them: not all of a million, and not all of a megabyte. */
function namedKeys(keys) {
  const named = keys.slice(0, NAMED_KEYS_MAX).map(shortened);
  return keys.length > NAMED_KEYS_MAX ? [...named, `… and ${keys.length - NAMED_KEYS_MAX} more`] : named;
}

const shortened = (key) => (key.length > KEY_LENGTH_MAX ? `${key.slice(0, KEY_LENGTH_MAX)}…` : key);

function copyValue(copy, value, shape, path) {
  if (typeof value !== 'object' || value === null) return value;
  if (shape === undefined) {
    // Refused like any object, with a text of its own where a pattern is wanted.
    if (isRegExp(value)) copy.builtIns.push(path, 'a RegExp');
    return value;
  }
  return reading(copy, path, () => {
    if (Array.isArray(value)) return shape === LIST ? copyList(copy, value, path) : value;
    const kind = shape === LIST ? undefined : builtIn(value);
    if (kind !== undefined) copy.builtIns.push(path, kind);
    if (shape === LIST || kind !== undefined) return value;
    return Object.freeze(shape === MAP ? copyMap(copy, value, path) : copyObject(copy, value, shape, path));
  });
}

/** Without the methods of the array, which a subclass may replace. */
function copyList(copy, value, path) {
  const { length } = value;
  if (length > ITEMS_MAX) throw refused(copy, path, `must have at most ${ITEMS_MAX} items, got ${length}`);
  const target = [];
  for (let index = 0; index < length; index++) target.push(value[index]);
  return Object.freeze(target);
}

function copyObject(copy, value, keys, path) {
  const target = {};
  for (const key of Object.keys(value)) {
    const below = path ? `${path}.${key}` : key;
    if (keys.has(key)) define(target, key, copyKey(copy, value, key, keys.get(key), below));
    else {
      copy.unread.push(below);
      const property = Object.getOwnPropertyDescriptor(value, key);
      if (property && 'value' in property) define(target, key, property.value);
    }
  }
  // A configuration may be an instance of a class with inherited properties. An inherited function is a method of that class,
  // whose name happens to be that of an option: `start`, `restart`, `logs`.
  for (const [key, shape] of keys) {
    if (Object.hasOwn(target, key) || !(key in value)) continue;
    const below = path ? `${path}.${key}` : key;
    const inherited = readKey(copy, value, key, below);
    if (typeof inherited !== 'function' || Object.hasOwn(value, key)) define(target, key, copyValue(copy, inherited, shape, below));
  }
  return target;
}

function copyMap(copy, value, path) {
  const target = {};
  for (const key of Object.keys(value)) define(target, key, copyKey(copy, value, key, undefined, `${path}.${key}`));
  return target;
}

function copyKey(copy, value, key, shape, path) {
  return copyValue(copy, readKey(copy, value, key, path), shape, path);
}

function readKey(copy, value, key, path) {
  const read = reading(copy, path, () => value[key]);
  if (path === 'pluginName') copy.name = read;
  return read;
}

/** Replaces the error of a getter or a proxy, because its text may contain a secret. `path`: '' for the whole object. */
function reading(copy, path, read) {
  try {
    return read();
  } catch (error) {
    if (copy.failed && error === copy.failed) throw error;
    throw refused(copy, path, "can't be read: what should give its value throws");
  }
}

function refused(copy, path, problem) {
  const field = shortened(copy.root === 'config' && path ? path : [copy.root, path].filter(Boolean).join('.'));
  copy.failed = invalidConfig(field, problem, copy.name ?? nameIn(copy.config));
  return copy.failed;
}

/** The name of the plugin, for an error about a field that is read before the name. */
function nameIn(config) {
  try {
    return config.pluginName;
  } catch {
    return undefined;
  }
}

/** The kind of an object with contents outside its properties, such as "a Map"; undefined for all other values. */
function builtIn(value) {
  const kind = Object.prototype.toString.call(value).slice('[object '.length, -1);
  if (ArrayBuffer.isView(value)) return `a ${kind}`;
  return /^(Map|Set|WeakMap|WeakSet|Date|RegExp|Promise|ArrayBuffer|Boolean|Number|String)$/.test(kind) ? `a ${kind}` : undefined;
}

/** Defines instead of assigning, because an environment variable may have the name __proto__. */
function define(target, key, value) {
  Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
}

/** One log file for all plugins is none, so the default has the plugin's name in it. */
function defaultOf(key, value, pluginName) {
  if (key !== 'logs' || typeof value?.file !== 'string' || typeof pluginName !== 'string') return value;
  return { ...value, file: value.file.replaceAll(NAME, () => pluginName) };
}

/** The copy of a configuration, with a default for each absent key. A null counts as absent too, and takes no default. */
function withDefaults(given, defaults) {
  if (defaults === undefined || typeof given !== 'object' || given === null || Array.isArray(given)) return given;
  const merged = { ...given };
  for (const key of Object.keys(defaults)) if (merged[key] === undefined) merged[key] = defaultOf(key, defaults[key], given.pluginName);
  return merged;
}

module.exports = { NAME, builtIn, copyConfig, copyConfigs, shortened, withDefaults };
