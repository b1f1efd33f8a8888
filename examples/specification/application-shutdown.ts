// "Application Shutdown" of the specification, as a function.

import type { BackgroundProcessManager } from '@ally/background-process-manager';

export function installCleanup(manager: BackgroundProcessManager): void {
  // Graceful shutdown on SIGTERM/SIGINT
  const cleanup = async () => {
    console.log('Shutting down...');
    await manager.stopAllProcesses();
    process.exit(0);
  };

  process.on('SIGTERM', cleanup);
  process.on('SIGINT', cleanup);
}
