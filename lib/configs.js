'use strict';

/**
 * The configurations of the plugins. A start or an upgrade that is refused before it changes anything leaves a former configuration
 * in use, and calls settle in any order, so all are kept until every call of the plugin is settled. `job`: the number by which the
 * native manager knows a configuration.
 */
class Configs {
  /** Plugin name to its configurations by job, and the jobs whose calls are not settled. */
  #plugins = new Map();

  add(pluginName, job, config) {
    if (!this.#plugins.has(pluginName)) this.#plugins.set(pluginName, { configs: new Map(), pending: new Set() });
    const { configs, pending } = this.#plugins.get(pluginName);
    configs.set(job, config);
    pending.add(job);
  }

  of(pluginName, job) {
    return this.#plugins.get(pluginName)?.configs.get(job);
  }

  /** Another session has changed the configuration. */
  replace(pluginName, job, config) {
    this.#plugins.get(pluginName)?.configs.set(job, config);
  }

  /** The call with `job` is settled, and the plugin has the configuration of `used`: this one, a former one or a later one. */
  settled(pluginName, job, used) {
    const plugin = this.#plugins.get(pluginName);
    if (!plugin) return;
    plugin.pending.delete(job);
    if (plugin.pending.size > 0) return;
    for (const other of plugin.configs.keys()) if (other !== used) plugin.configs.delete(other);
    if (plugin.configs.size === 0) this.#plugins.delete(pluginName);
  }

  delete(pluginName) {
    this.#plugins.delete(pluginName);
  }
}

module.exports = { Configs };
