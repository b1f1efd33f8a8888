'use strict';

/** "a Map" for an object that keeps its contents where no property shows them; undefined for everything else. */
function builtIn(value) {
  const kind = Object.prototype.toString.call(value).slice('[object '.length, -1);
  if (ArrayBuffer.isView(value)) return `a ${kind}`;
  return /^(Map|Set|WeakMap|WeakSet|Date|RegExp|Promise|ArrayBuffer|Boolean|Number|String)$/.test(kind) ? `a ${kind}` : undefined;
}

module.exports = { builtIn };
