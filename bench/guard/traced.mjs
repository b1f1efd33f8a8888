// The owner that is traced. Marks, in the trace, where one thing ends and the next begins, by asking
// for files that nobody has.

import { existsSync } from 'node:fs';
import { sleep, until } from '../lib/clock.mjs';
import { World } from '../lib/world.mjs';

const { dir, daemon, starts, others, checks, mib } = JSON.parse(process.argv[2]);
const world = new World({ dir, daemon, peers: {}, quick: true });
const mark = (name) => existsSync(`/ally-guard/${name}`);
setInterval(() => {}, 60_000);

const manager = world.manager();
// The thread, the guardian, and whatever else is made once.
await manager.startProcess(world.config('first'));
for (let index = 0; index < others; index++) await manager.startProcess(world.config(`other${index}`));
const configs = Array.from({ length: starts }, (_, index) => world.config(`d${index}`));

mark('starts');
for (const config of configs) await manager.startProcess(config);
mark('stops');
for (const { pluginName } of configs) await manager.stopProcess(pluginName);
mark('stopped');

// What the stops left to the guardian counts as theirs.
await sleep(500);
mark('settled');
const interval = 25;
await manager.startProcess(world.config('checked', { healthcheck: { interval, timeout: 1_000, retries: 3 } }));
mark('checks');
await sleep(checks * interval);
mark('checked');
await manager.stopProcess('checked');

await manager.startProcess(world.config('loud', { args: ['--flood', String(mib)] }));
await sleep(100);
mark('flood');
process.kill(manager.getPid('loud'), 'SIGUSR1');
await until(() => world.stamps('loud').at(-1).word === 'done', 'all is written');
mark('flooded');

await manager.stopAllProcesses();
await world.nothingLeft();
process.exit(0);
