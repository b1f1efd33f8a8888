// "PluginLoader Integration" of the specification. Added are the parts that it leaves out: the type of a manifest, the
// environment manager, and the call that makes the environment.

import { join } from 'node:path';
import {
  BackgroundProcessManager,
  type HealthcheckConfig,
  PLUGIN_ENVS_DIR,
  PLUGIN_TIMEOUTS,
  type PluginDependencies,
  PluginEnvironmentManager,
} from '@ally/background-process-manager';

export interface PluginManifest {
  name: string;
  runtime?: string;
  dependencies?: PluginDependencies;
  daemon?: { command: string; args: string[]; healthcheck?: HealthcheckConfig };
}

export class PluginLoader {
  private backgroundManager = new BackgroundProcessManager();
  private envManager = new PluginEnvironmentManager();

  async loadPlugin(manifest: PluginManifest, pluginPath: string): Promise<void> {
    if (manifest.runtime && manifest.dependencies) {
      const ready = await this.envManager.ensureDependencies(manifest.name, pluginPath, manifest.runtime, manifest.dependencies);
      if (!ready) return;
    }

    // Start daemon if defined
    if (manifest.daemon) {
      const command = manifest.daemon.command === 'python3' ? this.envManager.getPythonPath(manifest.name) : manifest.daemon.command;

      await this.backgroundManager.startProcess({
        pluginName: manifest.name,
        pluginPath,
        command,
        args: manifest.daemon.args,
        socketPath: join(PLUGIN_ENVS_DIR, manifest.name, 'daemon.sock'),
        healthcheck: manifest.daemon.healthcheck,
        startupTimeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
        shutdownGracePeriod: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD,
      });
    }
  }

  async shutdown(): Promise<void> {
    await this.backgroundManager.stopAllProcesses();
  }
}
