'use strict';
// Copies a configuration, so that what is checked, used and shown later is the same, whatever getters there are. Only the
// keys that src/config/names.rs lists are read, each once. src/config/parse.rs judges the values.

const { NativeManager } = require('../native.js');
const { invalidConfig } = require('./errors.js');

const LIST = 'list';
const MAP = 'map';

/** A value's shape: undefined for a single value, LIST, MAP, or a Map of keys to shapes. */
let shape;

/** `restart.window.limit`, `args[]`, `envVars.*`: one path per value, as the addon lists them. */
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
 * `given`: the frozen copy. `unread`: paths of the keys that mean nothing; own data properties of these are in the copy as
 * they are, accessors are left out, because calling one may do anything. `builtIns`: path and kind in turn of Maps and the
 * like, in which no check would see anything.
 */
function copyConfig(config) {
  shape ??= shapeOf(NativeManager.keys().config);
  const copy = { config, unread: [], builtIns: [], name: undefined };
  return { given: copyValue(copy, config, shape, ''), unread: copy.unread, builtIns: copy.builtIns };
}

function copyValue(copy, value, shape, path) {
  if (typeof value !== 'object' || value === null || shape === undefined) return value;
  return reading(copy, path || 'config', () => {
    if (Array.isArray(value)) return shape === LIST ? Object.freeze(value.map((item) => item)) : value;
    const kind = shape === LIST ? undefined : builtIn(value);
    if (kind !== undefined) copy.builtIns.push(path, kind);
    if (shape === LIST || kind !== undefined) return value;
    return Object.freeze(shape === MAP ? copyMap(copy, value, path) : copyObject(copy, value, shape, path));
  });
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
  // A configuration may be an instance of a class, whose properties are inherited.
  for (const [key, below] of keys) {
    if (Object.hasOwn(target, key) || !(key in value)) continue;
    define(target, key, copyKey(copy, value, key, below, path ? `${path}.${key}` : key));
  }
  return target;
}

function copyMap(copy, value, path) {
  const target = {};
  for (const key of Object.keys(value)) define(target, key, copyKey(copy, value, key, undefined, `${path}.${key}`));
  return target;
}

function copyKey(copy, value, key, shape, path) {
  const read = reading(copy, path, () => value[key]);
  if (path === 'pluginName') copy.name = read;
  return copyValue(copy, read, shape, path);
}

/** What a getter or a proxy throws stays where it is: it may quote a secret. */
function reading(copy, field, read) {
  try {
    return read();
  } catch (error) {
    if (copy.failed && error === copy.failed) throw error;
    copy.failed = invalidConfig(field, "can't be read: what should give its value throws", copy.name ?? nameIn(copy.config));
    throw copy.failed;
  }
}

/** For the error about a field that comes before the name. */
function nameIn(config) {
  try {
    return config.pluginName;
  } catch {
    return undefined;
  }
}

/** "a Map" for an object that keeps its contents where no property shows them; undefined for everything else. */
function builtIn(value) {
  const kind = Object.prototype.toString.call(value).slice('[object '.length, -1);
  if (ArrayBuffer.isView(value)) return `a ${kind}`;
  return /^(Map|Set|WeakMap|WeakSet|Date|RegExp|Promise|ArrayBuffer|Boolean|Number|String)$/.test(kind) ? `a ${kind}` : undefined;
}

/** Defined, not assigned: a variable may be called __proto__. */
function define(target, key, value) {
  Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
}

module.exports = { builtIn, copyConfig };
