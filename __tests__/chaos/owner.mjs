// One owner: carries out what the driver says, and tells how it ended.

import { readdirSync } from 'node:fs';
import { BackgroundProcessManager } from '../index.js';

const [envsDir, id, python] = process.argv.slice(2);
const manager = new BackgroundProcessManager({ envsDir });
const folder = new URL('.', import.meta.url).pathname;

const config = ({ name, character }) => ({
  pluginName: name,
  pluginPath: folder,
  command: python,
  args: ['-S', '-B', 'daemon.py', character],
  socketPath: `${envsDir}/${name}.sock`,
  startupTimeout: 5_000,
  shutdownGracePeriod: 300,
  envVars: { CHAOS_OWNER: id, CHAOS_NAME: name },
  restart: { delay: 20, maxDelay: 100, maxAttempts: 5, window: { limit: 1_000, period: 60_000 } },
  healthcheck: { interval: 300, timeout: 300, retries: 2, probe: { type: 'accept' } },
});

const verbs = {
  start: (order) => manager.startProcess(config(order)),
  stop: ({ name }) => manager.stopProcess(name),
  restart: ({ name }) => manager.restartProcess(name),
  stopAll: () => manager.stopAllProcesses(),
  usage: async () => ({ descriptors: readdirSync('/proc/self/fd').length, threads: readdirSync('/proc/self/task').length }),
};

process.on('message', async (order) => {
  try {
    process.send({ ticket: order.ticket, value: await verbs[order.verb](order) });
  } catch (error) {
    process.send({ ticket: order.ticket, code: error.code ?? 'NO_CODE', message: error.message });
  }
});
process.on('disconnect', () => process.exit(0));
process.send({ ready: true });
