'use strict';
// The changed fields of an upgrade as text, for the other sessions of a shared daemon. The copy of a configuration is plain data,
// except for the values of unknown keys, which stay out where they are not.

/** JSON has no `undefined`, which leaves a variable of `envVars` out. A list is packed into a list of one, so this is free. */
const UNDEFINED = [];

function packChanges(changes) {
  const packed = Object.entries(changes).map(([key, value]) => [key, packValue(value)]);
  return `{${packed
    .filter(([, text]) => text !== undefined)
    .map(([key, text]) => `${JSON.stringify(key)}:${text}`)
    .join(',')}}`;
}

function packValue(value) {
  try {
    return JSON.stringify(tag(value));
  } catch {
    // A cycle, or a BigInt.
    return undefined;
  }
}

function tag(value) {
  if (value === undefined) return UNDEFINED;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return [value.map(tag)];
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, tag(each)]));
}

/** Of a text that cannot be read, nothing is taken: nobody could catch the error. */
function unpackChanges(text) {
  try {
    return unpackValue(JSON.parse(text));
  } catch {
    return {};
  }
}

/** Not by a reviver, which removes what becomes undefined. */
function unpackValue(value) {
  if (typeof value !== 'object' || value === null) return value;
  if (!Array.isArray(value)) return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, each]) => [key, unpackValue(each)])));
  const [list] = value;
  return list && Object.freeze(list.map(unpackValue));
}

module.exports = { packChanges, unpackChanges };
