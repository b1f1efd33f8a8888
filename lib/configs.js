'use strict';

/**
 * The configurations of the plugins. A start that is refused before it changes anything leaves the former configuration in use,
 * so each start's is kept until the start is settled. `job`: the number by which the native manager knows it.
 */
class Configs {
  /** Plugin name to a Map of jobs to configurations, oldest first. */
  #plugins = new Map();

  add(pluginName, job, config) {
    if (!this.#plugins.has(pluginName)) this.#plugins.set(pluginName, new Map());
    this.#plugins.get(pluginName).set(job, config);
  }

  of(pluginName, job) {
    return this.#plugins.get(pluginName)?.get(job);
  }

  /** The start with `job` is settled, and the daemon uses the configuration of `used`: this one, a former one or a later one. */
  settled(pluginName, job, used) {
    // The later start may still be refused, and leave any of these in use.
    if (used > job) return;
    const jobs = this.#plugins.get(pluginName);
    for (const other of jobs?.keys() ?? []) if (other <= job && other !== used) jobs.delete(other);
    if (jobs?.size === 0) this.#plugins.delete(pluginName);
  }

  delete(pluginName) {
    this.#plugins.delete(pluginName);
  }
}

module.exports = { Configs };
