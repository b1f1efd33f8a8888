'use strict';

const { useCommandedOwner } = require('../helpers/commanded-owner');
const { ancestors, identify } = require('../helpers/proc');

function useCommandedTree(world) {
  const { config, commandedOwner } = useCommandedOwner(world);
  /** A running daemon with a tree of these kinds, its commanded owner, its keeper and the guardian. */
  async function commandedTree(kinds, changes) {
    const marker = world.path('family');
    const owner = commandedOwner();
    expect(await owner.asks('startProcess', config('plugin', ['leads-a-tree.py', marker, ...kinds], changes))).toEqual({});
    const leader = identify((await owner.asks('getPid', 'plugin')).value);
    const [keeper, guardian] = ancestors(leader.pid);
    return { owner, marker, leader, keeper, guardian, ...(await world.tree(marker)) };
  }

  return { commandedTree };
}

module.exports = { useCommandedTree };
