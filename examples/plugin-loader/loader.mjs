import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { BackgroundProcessManager, configFromManifest } from '../../index.js';
import { PluginEnvironments } from './environment.mjs';

/** Loads plugins from folders with a plugin.json, and runs their daemons. */
export class PluginLoader {
  #envsDir;
  #configure;

  /**
   * @param {object} options
   * @param {string} options.envsDir the folder of each plugin's environment, socket and pid file
   * @param {(config: object) => object} [options.configure] changes the configuration of a daemon
   */
  constructor({ envsDir, configure = (config) => config }) {
    this.#envsDir = envsDir;
    this.#configure = configure;
    this.environments = new PluginEnvironments(envsDir);
    this.backgroundManager = new BackgroundProcessManager({ envsDir });
  }

  /** The plugins below a folder, as `{ manifest, pluginPath }`. */
  async discover(pluginsDir) {
    const entries = await readdir(pluginsDir, { withFileTypes: true });
    const paths = entries.filter((entry) => entry.isDirectory()).map((entry) => join(pluginsDir, entry.name));
    return Promise.all(paths.map(async (pluginPath) => ({ manifest: await readManifest(pluginPath), pluginPath })));
  }

  async loadPlugin(manifest, pluginPath) {
    // A real loader registers the plugin's tools here.

    if (manifest.daemon) {
      const config = configFromManifest(manifest, { pluginPath, envsDir: this.#envsDir });
      if (manifest.runtime === 'python3') await this.environments.install(manifest.name);
      await this.backgroundManager.startProcess(this.#configure(config));
    }
  }

  async shutdown() {
    await this.backgroundManager.stopAllProcesses();
  }
}

async function readManifest(pluginPath) {
  const path = join(pluginPath, 'plugin.json');
  const text = await readFile(path, 'utf8');
  try {
    return JSON.parse(text);
  } catch (error) {
    // The error of JSON.parse has no path.
    throw new Error(`${path}: ${error.message}`, { cause: error });
  }
}
