import { Watcher } from '../../cli/watcher.js';
import { PluginLoader } from '../plugin-loader/loader.mjs';

/** A plugin loader that upgrades a plugin's daemon when the files of its folder change, without a failed request. */
export class HotPluginLoader extends PluginLoader {
  #onUpgrade;
  #watchers = new Map();
  /** The upgrade of each plugin, or its last one. */
  #upgrades = new Map();

  /**
   * @param {object} options as of PluginLoader, and
   * @param {(name: string, files: string[], error?: Error) => void} options.onUpgrade is told of each upgrade
   */
  constructor({ onUpgrade, configure = (config) => config, ...options }) {
    // With the daemon's own socket the first upgrade would have an instant in which nobody listens.
    super({ ...options, configure: (config) => configure({ ...config, socket: 'manager' }) });
    this.#onUpgrade = onUpgrade;
  }

  async loadPlugin(manifest, pluginPath) {
    await super.loadPlugin(manifest, pluginPath);
    // It waits until the files have been quiet for 200 ms, and ignores __pycache__, .git, logs, sockets and the like.
    const watcher = new Watcher(pluginPath, { ignored: [], onChange: (files) => this.#upgrade(manifest.name, files) });
    this.#watchers.set(manifest.name, watcher);
  }

  /** One upgrade at a time: a second one would be ERR_ALREADY_RUNNING. */
  #upgrade(name, files) {
    const before = this.#upgrades.get(name) ?? Promise.resolve();
    const upgrade = before.then(async () => {
      try {
        // Without changes: the same configuration, and so the files as they are now.
        await this.backgroundManager.upgradeProcess(name);
        this.#onUpgrade(name, files);
      } catch (error) {
        // The old daemon serves on.
        this.#onUpgrade(name, files, error);
      }
    });
    this.#upgrades.set(name, upgrade);
  }

  async shutdown() {
    for (const watcher of this.#watchers.values()) watcher.close();
    await super.shutdown();
  }
}
