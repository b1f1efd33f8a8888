// Clients that connect without pause, while their daemon is killed and restarted in turn, or upgraded: how many connections are refused
// or lost.

import { script } from '../../__tests__/helpers/world.js';
import { until } from '../../__tests__/helpers/until.js';
import { PYTHON } from '../../__tests__/helpers/python.js';
import { busyClients } from '../../__tests__/held/clients.js';

const CLIENTS = 8;
const RESTART = { delay: 0, jitter: 0, maxAttempts: 1_000, window: { limit: 100_000, period: 300_000 } };

export default {
  name: 'held',
  title: `${CLIENTS} busy clients during kills and restarts, or during upgrades`,
  rounds: { quick: 1, full: 3 },
  contestants: {
    held: "ally, socket: 'manager'",
    unlinks: "ally, socket: 'manager', the daemon removes SOCKET_PATH",
    own: "ally, socket: 'daemon'",
    upgrades: "ally, socket: 'manager', upgrades of a daemon that drains",
    ownUpgrades: "ally, socket: 'daemon', upgrades",
  },
  metrics: {
    refused: { label: 'refused', unit: 'connections' },
    broken: { label: 'lost with a killed daemon', unit: 'connections' },
    answered: { label: 'answered', unit: 'connections' },
  },

  async run(trial, contestant) {
    const manager = trial.manager({});
    const { config: changes } = contestants[contestant];
    const config = trial.config('d', { command: PYTHON, restart: RESTART, ...changes });
    await manager.startProcess(config);
    const clients = busyClients(config.socketPath, CLIENTS);
    const { upgrades = false } = contestants[contestant];
    for (let round = 0; round < rounds(trial.quick, upgrades); round++) {
      const { answered } = clients.seen;
      await until(() => clients.seen.answered > answered + CLIENTS);
      const pid = manager.getPid('d');
      if (upgrades) await manager.upgradeProcess('d');
      else if (round % 2 === 0) process.kill(pid, 'SIGKILL');
      else await manager.restartProcess('d');
      await until(() => manager.getPid('d') !== pid && manager.isRunning('d'), 30_000, 'the next daemon runs');
    }
    const { refused, broken, answered } = await clients.stop();
    await manager.stopAllProcesses();
    return { refused: [refused.length], broken: [broken], answered: [answered] };
  },
};

// Kills and restarts in turn: 150 of each.
const rounds = (quick, upgrades) => {
  if (quick) return 20;
  return upgrades ? 50 : 300;
};

const contestants = {
  held: { config: { args: script('serves-held.py'), socket: 'manager' } },
  unlinks: { config: { args: script('unlinks-held.py'), socket: 'manager' } },
  own: { config: { args: script('serves-lines.py') } },
  upgrades: { upgrades: true, config: { args: script('serves-held.py'), socket: 'manager' } },
  ownUpgrades: { upgrades: true, config: { args: script('serves-lines.py') } },
};
