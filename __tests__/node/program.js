'use strict';

function useProgram(world) {
  /** Restarts without delay and practically without limit. */
  const EAGER = { restart: { delay: 0, window: { limit: 1_000, period: 60_000 } } };

  const willing = (name, changes) => world.config(name, ['serves.py'], { ...EAGER, ...changes });

  const named = (stem, count) => Array.from({ length: count }, (_, index) => willing(`${stem}-${index}`));

  /** The reports of an owner that must end by itself with code 0 and an empty stderr. */
  async function whole(owner) {
    const ended = await owner.exited;
    await owner.closed;
    expect({ ...ended, failed: owner.lines.find((line) => 'failed' in line), errors: owner.errors }).toEqual({
      code: 0,
      signal: null,
      failed: undefined,
      errors: '',
    });
    return Object.assign({}, ...owner.lines);
  }

  const live = (scenario, order, options) => whole(world.owner('acts-as-a-program.js', { scenario, ...order }, options));

  /** Everything but memory, some of which stays cached. */
  function expectAsBefore(after, before) {
    expect({ ...after, memory: undefined }).toEqual({ ...before, zombies: 0, memory: undefined });
  }

  return { EAGER, willing, named, whole, live, expectAsBefore };
}

module.exports = { useProgram };
