'use strict';
// A native manager that starts nothing. It ends what other owners have or left, and asks the host of shared daemons, with the addon's own
// code.

const native = require('../native.js');
const { Failed } = require('./problems.js');

/**
 * `end(name)` settles when what is left of the plugin has ended. `signals`: also its processes; otherwise only the files of what is gone.
 * `force(name)` settles when the daemon of a living owner has ended. `everywhere`, `restart`: of a shared one, for all sessions. `all`: when
 * the host has ended with all its daemons. They reject with a failure of the addon: `{ code, message, pid }`.
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
    everywhere: (name) => answer({ ticket: manager.stop(name, true) }),
    restart: (name) => answer(manager.restartShared(name)),
    all: () => answer(manager.endHost()),
  };
}

module.exports = { leftovers };
