// An owner. It carries out the calls that run.mjs sends, and reports their outcomes.

import { World } from '../helpers/world.js';

const [dir, id] = process.argv.slice(2);
const world = new World({ dir });
const manager = world.manager();
const folder = new URL('.', import.meta.url).pathname;

const config = ({ name, behaviour, logs }) =>
  world.config(name, [], {
    pluginPath: folder,
    args: ['-S', '-B', 'daemon.py', behaviour],
    socketPath: `${world.envsDir}/${name}.sock`,
    startupTimeout: 5_000,
    shutdownGracePeriod: 300,
    envVars: { CHAOS_OWNER: id, CHAOS_NAME: name },
    restart: { delay: 20, maxDelay: 100, maxAttempts: 5, window: { limit: 1_000, period: 60_000 } },
    logs: logs && { file: world.path(`${name}.log`), maxFiles: 100_000, ...logs },
    healthcheck: { interval: 300, timeout: 300, retries: 2, probe: { type: 'accept' } },
  });

const verbs = {
  start: (order) => manager.startProcess(config(order)),
  stop: ({ name }) => manager.stopProcess(name),
  restart: ({ name }) => manager.restartProcess(name),
  stopAll: () => manager.stopAllProcesses(),
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
