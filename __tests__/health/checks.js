'use strict';

const { identify } = require('../helpers/proc');
const { until } = require('../helpers/until');

function useHealthChecks(world) {
  const healthy = ({ healthy: value }) => value;

  const sick = ({ healthy: value }) => !value;

  async function started(manager, fixture, healthcheck, changes) {
    await manager.startProcess(
      world.config('plugin', fixture, {
        healthcheck: { interval: 40, timeout: 1_000, retries: 3, ...healthcheck },
        restart: { delay: 0 },
        ...changes,
      }),
    );
    return identify(manager.getPid('plugin'));
  }

  /** Waits for `count` more health events that `which` accepts. */
  async function checks(events, count, which = () => true) {
    const before = events.of('health').filter(which).length;
    await until(() => events.of('health').filter(which).length >= before + count);
  }

  return { healthy, sick, started, checks };
}

module.exports = { useHealthChecks };
