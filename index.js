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
  constructor() {
    throw require('./lib/errors.js').notSupported('PluginEnvironmentManager');
  }
};
