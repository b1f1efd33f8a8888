// An owner. It carries out the calls that run.mjs sends, and reports their outcomes.

import { World } from '../helpers/world.js';

const [dir, id] = process.argv.slice(2);
const world = new World({ dir });
const manager = world.manager();
const folder = new URL('.', import.meta.url).pathname;

const command = (script) => ({ type: 'exec', command: 'sh', args: ['-c', script] });
/** By name: the readiness probe and the health probe. Each health check of the second one leaves a detached process behind. */
const PROBES = {
  connects: [undefined, { type: 'accept' }],
  'runs-a-command': [command('test -S "$SOCKET_PATH"'), command('(setsid sleep 30 &); test -S "$SOCKET_PATH"')],
  'waits-for-notifications': [{ type: 'notify' }, { type: 'notify' }],
};

/** By name: who makes the socket, and when the daemon starts. */
const SOCKETS = {
  own: {},
  held: { socket: 'manager' },
  'on-demand': { socket: 'manager', start: 'onConnect', idleTimeout: 200 },
};

const config = ({ name, behaviour, probes, sockets, idleTimeout, maxAttempts = 5, logs, limits: { umask, ...limits } = {} }) =>
  world.config(name, [], {
    pluginPath: folder,
    args: ['-S', '-B', 'daemon.py', behaviour],
    socketPath: `${world.envsDir}/${name}.sock`,
    startupTimeout: 5_000,
    shutdownGracePeriod: 300,
    envVars: {
      CHAOS_OWNER: id,
      CHAOS_NAME: name,
      ...(umask && { CHAOS_LIMITS: `${limits.openFiles} 0${umask.toString(8).padStart(3, '0')}` }),
    },
    umask,
    limits,
    restart: { delay: 20, maxDelay: 100, maxAttempts, window: { limit: 1_000, period: 60_000 } },
    logs: logs && { file: world.path(`${name}.log`), maxFiles: 100_000, ...logs },
    readiness: PROBES[probes][0],
    healthcheck: { interval: 300, timeout: 300, retries: 2, probe: PROBES[probes][1] },
    ...SOCKETS[sockets],
    ...(idleTimeout && sockets === 'on-demand' && { idleTimeout }),
  });

/** Equal in all sessions. */
const sharedConfig = ({ name, behaviour, sockets, linger }) => ({
  ...config({ name, behaviour, probes: 'connects', sockets }),
  shared: linger ? { linger } : true,
  // The folder of the run, by which its processes are found.
  envVars: { CHAOS_OWNER: 'host', CHAOS_NAME: name, TEST_WORLD: dir },
});

const verbs = {
  share: (order) => manager.startProcess(sharedConfig(order)),
  everywhere: ({ name }) => manager.stopProcess(name, { everywhere: true }),
  /** What this session knows of its plugins. */
  see: () => manager.listProcesses().map(({ config, state, pid, sessions }) => ({ name: config.pluginName, state, pid, sessions })),
  /** The name and the number of a later line are unknown here: only that the iteration ends. */
  follow: async ({ name }) => {
    for await (const _line of manager.logs(name, { follow: true, signal: AbortSignal.timeout(500) }));
  },
  know: ({ name }) => manager.getProcessInfo(name),
  start: (order) => manager.startProcess(config(order)),
  stop: ({ name }) => manager.stopProcess(name),
  restart: ({ name }) => manager.restartProcess(name),
  upgrade: ({ name, behaviour }) => manager.upgradeProcess(name, { args: ['-S', '-B', 'daemon.py', behaviour] }),
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
