// From the daemon's listen(2), or from its line, to the resolved start, with the probes that look elsewhere than at the socket file.
// pitchfork polls its checks every 500 ms, and process-compose every second by default: a model of each polls in this process.

import net from 'node:net';
import { freePort } from '../../__tests__/helpers/ports.js';
import { sleep } from '../../__tests__/helpers/until.js';
import * as byhand from '../lib/byhand.mjs';
import { now } from '../lib/clock.mjs';
import { assert } from '../lib/trial.mjs';

export default {
  name: 'probes',
  title: 'Daemon serves → start resolved, by probe',
  rounds: { quick: 2, full: 5 },
  contestants: {
    http: 'ally, http over the socket',
    output: 'ally, output',
    tcp: 'ally, tcp',
    httpPort: 'ally, http with port',
    pitchfork: 'model of pitchfork: a poll every 500 ms',
    processCompose: 'model of process-compose: a poll every second',
  },
  metrics: { resolved: { label: 'served → resolved', unit: 'ms' } },

  async run(trial, contestant) {
    const samples = [];
    const { one, end, starts } = contestants[contestant](trial);
    for (let index = 0; index < starts; index++) {
      const name = `d${index}`;
      const resolved = await one(name);
      const { at } = await trial.stamped(name, 'listen');
      samples.push(resolved - at);
    }
    await end();
    return { resolved: samples };
  },
};

const contestants = {
  http: (trial) => managed(trial, () => [['--http'], { type: 'http' }]),
  output: (trial) => managed(trial, () => [['--line'], { type: 'output', pattern: '^ready$' }]),
  tcp: (trial) => managed(trial, (port) => [['--port', port], { type: 'tcp', port }]),
  httpPort: (trial) => managed(trial, (port) => [['--port', port], { type: 'http', port }]),
  pitchfork: (trial) => polled(trial, 500),
  processCompose: (trial) => polled(trial, 1_000),
};

function managed(trial, probe) {
  const manager = trial.manager();
  return {
    starts: trial.quick ? 10 : 25,
    async one(name) {
      const [args, readiness] = probe(await freePort());
      await manager.startProcess(trial.config(name, { args: args.map(String), readiness }));
      const resolved = now();
      assert(manager.isRunning(name), `${name} runs`);
      return resolved;
    },
    end: () => manager.stopAllProcesses(),
  };
}

function polled(trial, pause) {
  const children = [];
  return {
    starts: trial.quick ? 2 : 4,
    async one(name) {
      const port = await freePort();
      children.push(byhand.start(trial, name, ['--port', String(port)]));
      while (!(await connects(port))) await sleep(pause);
      return now();
    },
    end: () => Promise.all(children.map(byhand.stop)),
  };
}

function connects(port) {
  return new Promise((resolve) => {
    const client = net.connect({ host: '127.0.0.1', port });
    client.on('connect', () => client.destroy(resolve(true))).on('error', () => resolve(false));
  });
}
