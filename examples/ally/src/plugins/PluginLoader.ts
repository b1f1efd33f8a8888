// The part of Ally's loader that starts a daemon, unchanged.

import { PLUGIN_TIMEOUTS } from '@ally/background-process-manager';
import type { BackgroundProcessConfig, BackgroundProcessManager } from './BackgroundProcessManager.js';

interface PluginManifest {
  name: string;
  background: {
    args: string[];
    communication: { path: string };
    healthcheck?: { interval: number; timeout: number; retries: number };
    startup_timeout?: number;
    shutdown_grace_period?: number;
  };
}

export class PluginLoader {
  constructor(private processManager: BackgroundProcessManager) {}

  async startPluginBackground(manifest: PluginManifest, pluginPath: string, pythonPath: string): Promise<void> {
    if (this.processManager.isRunning(manifest.name)) return;
    const config: BackgroundProcessConfig = {
      pluginName: manifest.name,
      pluginPath,
      command: pythonPath,
      args: manifest.background.args,
      socketPath: manifest.background.communication.path,
      healthcheck: manifest.background.healthcheck,
      startupTimeout: manifest.background.startup_timeout || PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
      shutdownGracePeriod: manifest.background.shutdown_grace_period || PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD,
    };
    await this.processManager.startProcess(config);
  }
}
