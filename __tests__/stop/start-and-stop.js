'use strict';

const { identify } = require('../helpers/proc');

function useStartAndStop(world) {
  async function started(manager, fixture, changes) {
    await manager.startProcess(world.config('plugin', fixture, changes));
    return identify(manager.getPid('plugin'));
  }

  /** Expects that a stop resolves, and returns its duration in ms. */
  async function stop(manager, name = 'plugin') {
    const began = performance.now();
    await expect(manager.stopProcess(name)).resolves.toBeUndefined();
    return performance.now() - began;
  }

  return { started, stop };
}

module.exports = { useStartAndStop };
