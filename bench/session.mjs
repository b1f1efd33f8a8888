// A session of the benchmark: says that it is up, starts the plugin when it is told to, and says when the start has resolved.

import { BackgroundProcessManager } from '../index.js';
import { now } from './lib/clock.mjs';

const { envsDir, config } = JSON.parse(process.argv[2]);
const manager = new BackgroundProcessManager({ envsDir });
process.on('message', async () => {
  await manager.startProcess(config);
  process.send({ at: now(), pid: manager.getPid(config.pluginName) });
});
process.send({});
