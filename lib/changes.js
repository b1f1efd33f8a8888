'use strict';
// The changed fields of an upgrade as text, for the other sessions of a shared daemon. The copy of a configuration is plain data,
// except for the values of unknown keys, which stay out where they are not.

/** JSON has no `undefined`, which leaves a variable of `envVars` out. */
const UNDEFINED = { undefined: true };

function packChanges(changes) {
  const packed = Object.entries(changes).map(([key, value]) => [key, packValue(value)]);
  return `{${packed
    .filter(([, text]) => text !== undefined)
    .map(([key, text]) => `${JSON.stringify(key)}:${text}`)
    .join(',')}}`;
}

function packValue(value) {
  try {
    return JSON.stringify(value, (_, each) => (each === undefined ? UNDEFINED : each));
  } catch {
    // A cycle, or a BigInt.
    return undefined;
  }
}

function unpackChanges(text) {
  return unpackValue(JSON.parse(text));
}

/** Not by a reviver, which removes what becomes undefined. */
function unpackValue(value) {
  if (typeof value !== 'object' || value === null) return value;
  if (value.undefined === true) return undefined;
  if (Array.isArray(value)) return Object.freeze(value.map(unpackValue));
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, each]) => [key, unpackValue(each)])));
}

module.exports = { packChanges, unpackChanges };
