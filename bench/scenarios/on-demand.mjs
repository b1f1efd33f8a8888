// Daemons on demand: what the first connection waits for, what armed plugins cost, and connections at the instants of idle stops.

import { PYTHON } from '../../__tests__/helpers/python.js';
import { ask } from '../../__tests__/held/clients.js';
import { sleep, until } from '../../__tests__/helpers/until.js';
import { script } from '../../__tests__/helpers/world.js';
import { now } from '../lib/clock.mjs';
import { assert } from '../lib/trial.mjs';
import { descendants } from '../../__tests__/helpers/proc.js';

const ON_DEMAND = { command: PYTHON, socket: 'manager', start: 'onConnect', restart: { delay: 0, jitter: 0 } };
const ARMED = 100;

export const onDemand = {
  name: 'onDemand',
  title: 'The first request to a plugin, Python daemon',
  rounds: { quick: 1, full: 3 },
  contestants: { ally: "ally, start 'onConnect': the request", started: 'ally, startProcess and then the request' },
  metrics: { answered: { label: 'begin → answer', unit: 'ms' } },

  async run(trial, contestant) {
    const answered = [];
    const manager = trial.manager();
    // Another daemon runs meanwhile, so that the guardian keeps running.
    await manager.startProcess(trial.config('other'));
    for (let index = 0; index < (trial.quick ? 10 : 30); index++) {
      const isOnDemand = contestant === 'ally';
      const changes = isOnDemand ? { ...ON_DEMAND, args: script('serves-held.py') } : { command: PYTHON, args: script('serves-lines.py') };
      const config = trial.config(`d${index}`, changes);
      if (isOnDemand) await manager.startProcess(config);
      const begin = now();
      if (!isOnDemand) await manager.startProcess(config);
      const answer = await ask(config.socketPath, 'hello\n');
      answered.push(now() - begin);
      assert(answer !== '', 'the request is answered');
      await manager.stopProcess(`d${index}`);
    }
    await manager.stopAllProcesses();
    return { answered };
  },
};

export const armed = {
  name: 'armed',
  title: `${ARMED} armed plugins`,
  rounds: { quick: 1, full: 3 },
  // Without V8's memory reducer, which takes 12 ms about ten seconds after any work.
  nodeArgs: ['--no-memory-reducer'],
  contestants: { ally: 'ally' },
  metrics: { cpu: { label: 'CPU of the owner', unit: 'ms/s' }, processes: { label: 'processes', unit: '' } },

  async run(trial) {
    const manager = trial.manager();
    const names = Array.from({ length: ARMED }, (_, index) => `d${index}`);
    await Promise.all(
      names.map((name) => manager.startProcess(trial.config(name, { ...ON_DEMAND, args: script('serves-held.py'), idleTimeout: 60_000 }))),
    );
    await sleep(2_000);
    const seconds = trial.quick ? 4 : 10;
    const before = process.cpuUsage();
    await sleep(seconds * 1_000);
    const { user, system } = process.cpuUsage(before);
    const processes = descendants(process.pid).length;
    assert(
      names.every((name) => manager.getProcessInfo(name).armed),
      'every plugin is armed',
    );
    await manager.stopAllProcesses();
    return { cpu: [(user + system) / 1e3 / seconds], processes: [processes] };
  },
};

const PLUGINS = 10;
const IDLE_TIMEOUT = 300;
// More than 20 activations in 10 s end in ERROR.
const SHORTEST_TURN = 520;

export const idleStops = {
  name: 'idleStops',
  title: 'Connections at the instants of idle stops',
  rounds: { quick: 1, full: 1 },
  contestants: {
    terminates: "ally, a daemon with SIGTERM's default action",
    drains: 'ally, a daemon that drains',
  },
  metrics: {
    connections: { label: 'connections', unit: '' },
    stops: { label: 'idle stops', unit: '' },
    refused: { label: 'refused', unit: 'connections' },
    unanswered: { label: 'unanswered', unit: 'connections' },
  },

  async run(trial, contestant) {
    // Both read what a client sends before they answer: a client whose message comes too late would fail for that.
    const daemon = { terminates: ['serves-descriptor-3.py', 'd', 'echoes'], drains: ['serves-held.py'] }[contestant];
    const manager = trial.manager();
    const seen = { connections: 0, stops: 0, refused: 0, unanswered: 0 };
    manager.on('exit', ({ reason }) => (seen.stops += reason === 'idle'));
    const turns = async (plugin) => {
      const config = trial.config(`d${plugin}`, { ...ON_DEMAND, args: script(...daemon), idleTimeout: IDLE_TIMEOUT });
      await manager.startProcess(config);
      for (let turn = 0; turn < (trial.quick ? 10 : 100); turn++) {
        const begin = now();
        try {
          if ((await ask(config.socketPath)) === '') seen.unanswered++;
        } catch (error) {
          if (['ECONNRESET', 'EPIPE'].includes(error.code)) seen.unanswered++;
          else seen.refused++;
        }
        seen.connections++;
        // Around the end of the idle time, a little earlier or later in each turn: it ends at the third or fourth look.
        const end = Math.max(begin + SHORTEST_TURN, now() + IDLE_TIMEOUT) + ((turn * 7 + plugin * 11) % 150);
        await until(() => now() >= end);
      }
    };
    await Promise.all(Array.from({ length: PLUGINS }, (_, plugin) => turns(plugin)));
    assert(seen.stops > seen.connections / 4, `many connections meet an idle stop: ${JSON.stringify(seen)}`);
    await manager.stopAllProcesses();
    return Object.fromEntries(Object.entries(seen).map(([metric, count]) => [metric, [count]]));
  },
};
