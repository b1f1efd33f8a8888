import { BackgroundProcessManager as Daemons } from '@ally/background-process-manager';
import { getPluginEnvsDir } from '../config/paths.js';
import { logger } from '../services/Logger.js';

const defaults = { restart: { maxAttempts: 5, delay: 1_000 }, readiness: { type: 'accept' }, inheritEnv: false } as const;

export class BackgroundProcessManager extends Daemons {
  constructor() {
    super({ envsDir: getPluginEnvsDir(), logger, defaults });
  }
}

export { ProcessState, type BackgroundProcessConfig, type ProcessInfo } from '@ally/background-process-manager';
