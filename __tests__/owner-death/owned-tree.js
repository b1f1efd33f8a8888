'use strict';

const { alive, ancestors, descendants, identify, stat } = require('../helpers/proc');
const { until } = require('../helpers/until');

function useOwnedTree(world) {
  const GRACE = 500;

  /** The promise for daemons: the grace period and 2 s. */
  const DAEMONS_GONE = GRACE + 2_000;

  const KINDS = ['stubborn', 'fled', 'grouped'];

  /** An owner with a tree, in the state `order.when`. */
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

  /** All processes that descend from a living owner: guardian, keepers and trees. */
  function brood(owner, leader) {
    const above = stat(owner.pid) ? ancestors(owner.pid).map(({ pid }) => pid) : [];
    const found = [...descendants(owner.pid), ...ancestors(leader.pid)];
    return found.filter(({ pid }) => pid !== owner.pid && pid !== process.pid && !above.includes(pid));
  }

  async function expectGone(processes, deadline) {
    const began = performance.now();
    await until(() => !processes.some(alive), deadline + 5_000);
    // 500 ms for a machine whose two cores are busy; the promise is the deadline.
    expect(performance.now() - began).toBeLessThan(deadline + 500);
  }

  return { GRACE, DAEMONS_GONE, KINDS, owned, brood, expectGone };
}

module.exports = { useOwnedTree };
