'use strict';
// The exports. Each is a literal assignment, because Node finds the names for an ES module's `import` by parsing this text.
// Modules that few programs use are required at first use, to keep the load time short.

const { BackgroundProcessManager } = require('./lib/manager.js');
const { PLUGIN_ENVS_DIR, PLUGIN_TIMEOUTS, ProcessState } = require('./lib/constants.js');

module.exports.BackgroundProcessManager = BackgroundProcessManager;
module.exports.ProcessState = ProcessState;
module.exports.PLUGIN_TIMEOUTS = PLUGIN_TIMEOUTS;
module.exports.PLUGIN_ENVS_DIR = PLUGIN_ENVS_DIR;
module.exports.configFromManifest = function configFromManifest(manifest, at) {
  return require('./lib/manifest.js').configFromManifest(manifest, at);
};
module.exports.PluginEnvironmentManager = class PluginEnvironmentManager {
  #environments;

  constructor(options) {
    const { Environments } = require('./lib/environments/index.js');
    this.#environments = new Environments(options);
  }

  ensureDependencies(pluginName, pluginPath, runtime, dependencies, options) {
    return this.#environments.ensureDependencies(pluginName, pluginPath, runtime, dependencies, options);
  }

  isReady(pluginName) {
    return this.#environments.isReady(pluginName);
  }

  getPythonPath(pluginName) {
    return this.#environments.getPythonPath(pluginName);
  }

  getNodeModulesPath(pluginName) {
    return this.#environments.getNodeModulesPath(pluginName);
  }

  getEnvPath(pluginName) {
    return this.#environments.getEnvPath(pluginName);
  }

  removeEnvironment(pluginName) {
    return this.#environments.removeEnvironment(pluginName);
  }
};
