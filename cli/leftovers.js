'use strict';
// A native manager that starts nothing. It ends what other owners have or left, and asks the host of shared daemons, with the addon's own
// code.

const native = require('../native.js');
const { Failed } = require('./problems.js');

/** The lines that are taken in one turn. */
const BATCH = 256;

/**
 * `end(name)` settles when what is left of the plugin has ended. `signals`: also its processes; otherwise only the files of what is gone.
 * `force(name)` settles when the daemon of a living owner has ended. `everywhere`, `restart`: of a shared one, for all sessions. `all`: when
 * the host has ended with all its daemons. They reject with a failure of the addon: `{ code, message, pid }`.
 */
function leftovers(envsDir, { signals }) {
  if (native.problem !== undefined) throw new Failed(native.problem);
  const waiting = new Map();
  /** What to call when a follower has lines, by its number. */
  const followers = new Map();
  let manager;
  const take = () => {
    for (const { kind, follower, ticket, failure } of manager.take()) {
      if (kind === 'lines') followers.get(follower)?.();
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
    view: () => manager.viewHost(),
    /** The output of a shared plugin, a batch of lines at a time. */
    async *output(name, lines, follow) {
      const follower = manager.watchShared(name, Math.min(lines, 0xffffffff), follow);
      // A follower keeps no event loop alive.
      const alive = setInterval(() => {}, 2 ** 30);
      try {
        for (;;) {
          const batch = follower.take(BATCH);
          if (batch.lines.length > 0) yield batch;
          else if (batch.ended) return;
          else
            await new Promise((wake) => {
              followers.set(follower.id, wake);
              follower.want();
            });
        }
      } finally {
        clearInterval(alive);
        followers.delete(follower.id);
        follower.close();
      }
    },
  };
}

module.exports = { leftovers };
