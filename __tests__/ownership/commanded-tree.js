'use strict';

const { useCommandedOwner } = require('../helpers/commanded-owner');
const { ancestors, identify } = require('../helpers/proc');

function useCommandedTree(world) {
  const { config, commandedOwner } = useCommandedOwner(world);
  /** A running daemon with such a family, and what stands between its owner and it. */
  async function family(kinds, changes) {
    const marker = world.path('family');
    const owner = commandedOwner();
    expect(await owner.asks('startProcess', config('plugin', ['leads-a-tree.py', marker, ...kinds], changes))).toEqual({});
    const leader = identify((await owner.asks('getPid', 'plugin')).value);
    const [keeper, guardian] = ancestors(leader.pid);
    return { owner, marker, leader, keeper, guardian, ...(await world.tree(marker)) };
  }

  return { family };
}

module.exports = { useCommandedTree };
