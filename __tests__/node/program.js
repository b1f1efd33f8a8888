'use strict';

function useProgram(world) {
  /** Restarted at once, as often as a test likes. */
  const EAGER = { restart: { delay: 0, window: { limit: 1_000, period: 60_000 } } };

  const willing = (name, changes) => world.config(name, ['serves.py'], { ...EAGER, ...changes });

  const named = (stem, count) => Array.from({ length: count }, (_, index) => willing(`${stem}-${index}`));

  /** What an owner says until it ends by itself, without a word on stderr. */
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

  /** Everything but memory, of which some is cached for good. */
  function expectAsBefore(after, before) {
    expect({ ...after, memory: undefined }).toEqual({ ...before, zombies: 0, memory: undefined });
  }

  return { EAGER, willing, named, whole, live, expectAsBefore };
}

module.exports = { useProgram };
