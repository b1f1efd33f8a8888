// "With Environment Variables" of the specification, as a function.

import type { BackgroundProcessManager } from '@ally/background-process-manager';

export async function start(manager: BackgroundProcessManager, pythonPath: string): Promise<void> {
  await manager.startProcess({
    pluginName: 'api-server',
    pluginPath: '/path/to/plugin',
    command: pythonPath,
    args: ['server.py'],
    socketPath: '/path/to/daemon.sock',
    envVars: {
      PORT: '8080',
      API_KEY: process.env.API_KEY,
      LOG_LEVEL: 'debug',
    },
    startupTimeout: 30000,
    shutdownGracePeriod: 5000,
  });
}
