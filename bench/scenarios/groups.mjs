// A group of daemons in layers: each depends on two of the layer before, and listens a while after its spawn.

import { now } from '../lib/clock.mjs';

const LAYERS = 10;
const PER_LAYER = 10;
const DELAY = 50;

export default {
  name: 'groups',
  title: `startGroup: ${LAYERS * PER_LAYER} daemons in ${LAYERS} layers, each ready after ${DELAY} ms`,
  rounds: { quick: 1, full: 3 },
  contestants: { ally: 'ally' },
  metrics: {
    group: { label: 'call → resolved', unit: 'ms' },
    path: { label: 'the slowest path, by the times of each start', unit: 'ms' },
    delays: { label: "the daemons' own time along a path", unit: 'ms' },
  },

  async run(trial) {
    const manager = trial.manager();
    const name = (layer, index) => `l${layer}-${index}`;
    const configs = Array.from({ length: LAYERS * PER_LAYER }, (_, number) => {
      const [layer, index] = [Math.floor(number / PER_LAYER), number % PER_LAYER];
      const before = [index, (index + 1) % PER_LAYER].map((other) => name(layer - 1, other));
      return trial.config(name(layer, index), { args: ['--delay', String(DELAY)], dependsOn: layer > 0 ? before : [] });
    });
    const begin = now();
    const starts = await manager.startGroup(configs);
    const group = now() - begin;
    const took = new Map(starts.map(({ pluginName, queued, ready }) => [pluginName, ready - queued]));
    const paths = new Map();
    for (const { pluginName, dependsOn } of configs) {
      paths.set(pluginName, took.get(pluginName) + Math.max(0, ...dependsOn.map((other) => paths.get(other))));
    }
    await manager.stopAllProcesses();
    return { group: [group], path: [Math.max(...paths.values())], delays: [LAYERS * DELAY] };
  },
};
