// "Basic Usage" of the specification. Only the lines with import are changed.

import { join } from 'node:path';
import { BackgroundProcessManager, PLUGIN_ENVS_DIR, PLUGIN_TIMEOUTS, PluginEnvironmentManager } from '@ally/background-process-manager';

const manager = new BackgroundProcessManager();
const envManager = new PluginEnvironmentManager();

const pluginName = 'search-plugin';
const pluginPath = '/Users/user/.ally/plugins/search-plugin';

// Start the daemon
await manager.startProcess({
  pluginName,
  pluginPath,
  command: envManager.getPythonPath(pluginName),
  args: ['daemon.py'],
  socketPath: join(PLUGIN_ENVS_DIR, pluginName, 'daemon.sock'),
  startupTimeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
  shutdownGracePeriod: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD,
  healthcheck: {
    interval: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL,
    timeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT,
    retries: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES,
  },
});

// Later, stop it
await manager.stopProcess(pluginName);
