'use strict';
// A native manager that starts nothing. It ends what other owners have or left, with the addon's own code.

const native = require('../native.js');
const { Failed } = require('./problems.js');

/**
 * `end(name)` settles when what is left of the plugin has ended. `signals`: also its processes; otherwise only the files of what is gone.
 * `force(name)` settles when the daemon of a living owner has ended. Both reject with a failure of the addon: `{ code, message, pid }`.
 */
function leftovers(envsDir, { signals }) {
  if (native.problem !== undefined) throw new Failed(native.problem);
  const waiting = new Map();
  let manager;
  const take = () => {
    for (const { ticket, failure } of manager.take()) {
      const { resolve, reject } = waiting.get(ticket) ?? {};
      waiting.delete(ticket);
      if (failure) reject?.(failure);
      else resolve?.();
    }
    if (manager.hasMore()) setImmediate(take);
  };
  const options = { envsDir, keepOnOwnerDeath: false, guardian: native.guardian, hasLogger: false, debug: false };
  manager = new native.NativeManager(options, take, { hasRef: () => manager?.isHolding() ?? false });
  const answer = ({ ticket, failure }) =>
    new Promise((resolve, reject) => {
      if (failure) reject(failure);
      else waiting.set(ticket, { resolve, reject });
    });
  return {
    end: (name) => answer(manager.endLeftovers(name, signals)),
    force: (name) => answer(manager.endByForce(name)),
  };
}

module.exports = { leftovers };
