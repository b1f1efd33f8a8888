// The traced owner. It marks the phases in the trace by existsSync on paths that do not exist.

import { existsSync } from 'node:fs';
import { sleep, until } from '../../__tests__/helpers/until.js';
import { Trial } from '../lib/trial.mjs';

const { dir, daemon, starts, others, checks, mib } = JSON.parse(process.argv[2]);
const trial = new Trial({ dir, daemon, peers: {}, quick: true });
const mark = (name) => existsSync(`/ally-limits/${name}`);
setInterval(() => {}, 60_000);

const manager = trial.manager();
// The first start creates the supervisor's thread and the guardian.
await manager.startProcess(trial.config('first'));
for (let index = 0; index < others; index++) await manager.startProcess(trial.config(`other${index}`));
const configs = Array.from({ length: starts }, (_, index) => trial.config(`d${index}`));

mark('starts');
for (const config of configs) await manager.startProcess(config);
mark('stops');
for (const { pluginName } of configs) await manager.stopProcess(pluginName);
mark('stopped');

// The guardian's calls after the stops count too.
await sleep(500);
mark('settled');
const interval = 25;
await manager.startProcess(trial.config('checked', { healthcheck: { interval, timeout: 1_000, retries: 3 } }));
mark('checks');
await sleep(checks * interval);
mark('checked');
await manager.stopProcess('checked');

await manager.startProcess(trial.config('flood', { args: ['--flood', String(mib)] }));
await sleep(100);
mark('flood');
process.kill(manager.getPid('flood'), 'SIGUSR1');
await until(() => trial.stamps('flood').at(-1).word === 'done', 30_000, 'the flood is written');
mark('flooded');

await manager.stopAllProcesses();
await trial.nothingLeft();
process.exit(0);
