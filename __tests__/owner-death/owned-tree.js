'use strict';

const { alive, ancestors, descendants, identify, stat } = require('../helpers/proc');
const { until } = require('../helpers/until');

function useOwnedTree(world) {
  const GRACE = 500;

  /** Promised for the daemons: two seconds and the grace period. A second more for the guardian. */
  const DAEMONS_GONE = GRACE + 2_000;

  const KINDS = ['stubborn', 'fled', 'grouped'];

  /** An owner with a whole family to leave behind, at the moment that its order names. */
  async function owned(order = {}, { script = 'starts-and-ends.js', fixture = KINDS, ...options } = {}) {
    const marker = world.path('family');
    const owner = world.owner(
      script,
      {
        after: marker,
        configs: [world.config('plugin', ['leads-a-tree.py', marker, ...fixture], { shutdownGracePeriod: GRACE, startupTimeout: 20_000 })],
        ...order,
      },
      options,
    );
    const family = await world.tree(marker);
    const { plugin } = await owner.says('ready');
    return { owner, family: Object.values(family), leader: identify(plugin) };
  }

  /** Everything that the owner brought into the world, the guardian too. Of an owner that is still alive. */
  function brood(owner, leader) {
    const above = stat(owner.pid) ? ancestors(owner.pid).map(({ pid }) => pid) : [];
    const found = [...descendants(owner.pid), ...ancestors(leader.pid)];
    return found.filter(({ pid }) => pid !== owner.pid && pid !== process.pid && !above.includes(pid));
  }

  async function expectGone(processes, deadline) {
    const began = performance.now();
    await until(() => !processes.some(alive), deadline + 5_000);
    // Room for a test machine whose two cores are busy; the promise itself is the deadline.
    expect(performance.now() - began).toBeLessThan(deadline + 500);
  }

  return { GRACE, DAEMONS_GONE, KINDS, owned, brood, expectGone };
}

module.exports = { useOwnedTree };
