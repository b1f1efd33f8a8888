// "Error Handling" of the specification, as a function.

import { type BackgroundProcessConfig, type BackgroundProcessManager, ProcessState } from '@ally/background-process-manager';

export async function start(manager: BackgroundProcessManager, config: BackgroundProcessConfig, pluginName: string): Promise<void> {
  try {
    await manager.startProcess(config);
  } catch (error) {
    if (error.message.includes('already running')) {
      console.log('Process is already running');
    } else if (error.message.includes('Timeout waiting for socket')) {
      console.error('Process started but not responding');
    } else {
      console.error('Startup failed:', error.message);
    }

    // Check error state
    const info = manager.getProcessInfo(pluginName);
    if (info?.state === ProcessState.ERROR) {
      console.error('Last error:', info.lastError);
    }
  }
}
