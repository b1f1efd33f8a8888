'use strict';
// The changed fields of an upgrade as a list of names and texts in turn, for the other sessions of a shared daemon. The copy of a
// configuration is plain data, except for the values of unknown keys, which stay out where they are not.

/** JSON has no `undefined`, which leaves a variable of `envVars` out. A list is packed into a list of one, so this is free. */
const UNDEFINED = [];

const packChanges = (changes) =>
  Object.entries(changes).flatMap(([key, value]) => {
    const text = packValue(value);
    return text === undefined ? [] : [key, text];
  });

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
function unpackChanges(packed) {
  const entries = [];
  for (let index = 0; index + 1 < packed.length; index += 2) {
    try {
      entries.push([packed[index], unpackValue(JSON.parse(packed[index + 1]))]);
    } catch {}
  }
  return Object.fromEntries(entries);
}

/** Not by a reviver, which removes what becomes undefined. */
function unpackValue(value) {
  if (typeof value !== 'object' || value === null) return value;
  if (!Array.isArray(value)) return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, each]) => [key, unpackValue(each)])));
  const [list] = value;
  return list && Object.freeze(list.map(unpackValue));
}

module.exports = { packChanges, unpackChanges };
