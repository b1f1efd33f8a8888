// Clients that connect without pause, while their daemon is killed and restarted in turn: how many connections are refused.

import { script } from '../../__tests__/helpers/world.js';
import { until } from '../../__tests__/helpers/until.js';
import { PYTHON } from '../../__tests__/helpers/python.js';
import { busyClients } from '../../__tests__/held/clients.js';

const CLIENTS = 8;
const RESTART = { delay: 0, jitter: 0, maxAttempts: 1_000, window: { limit: 100_000, period: 300_000 } };

export default {
  name: 'held',
  title: `${CLIENTS} busy clients during kills and restarts`,
  rounds: { quick: 1, full: 3 },
  contestants: {
    held: "ally, socket: 'manager'",
    unlinks: "ally, socket: 'manager', the daemon removes SOCKET_PATH",
    own: "ally, socket: 'daemon'",
  },
  metrics: {
    refused: { label: 'refused', unit: 'connections' },
    broken: { label: 'lost with a killed daemon', unit: 'connections' },
    answered: { label: 'answered', unit: 'connections' },
  },

  async run(trial, contestant) {
    const manager = trial.manager({});
    const config = trial.config('d', { command: PYTHON, restart: RESTART, ...contestants[contestant] });
    await manager.startProcess(config);
    const clients = busyClients(config.socketPath, CLIENTS);
    for (let round = 0; round < (trial.quick ? 20 : 150); round++) {
      const { answered } = clients.seen;
      await until(() => clients.seen.answered > answered + CLIENTS);
      const pid = manager.getPid('d');
      if (round % 2 === 0) process.kill(pid, 'SIGKILL');
      else await manager.restartProcess('d');
      await until(() => manager.isRunning('d') && manager.getPid('d') !== pid, 30_000, 'the next daemon runs');
    }
    const { refused, broken, answered } = await clients.stop();
    await manager.stopAllProcesses();
    return { refused: [refused.length], broken: [broken], answered: [answered] };
  },
};

const contestants = {
  held: { args: script('serves-held.py'), socket: 'manager' },
  unlinks: { args: script('unlinks-held.py'), socket: 'manager' },
  own: { args: script('serves-lines.py') },
};
