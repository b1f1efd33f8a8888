// One contestant of one scenario, in a process of its own: what one leaves in heap, caches and compiled
// code doesn't reach the next. Started by run.mjs; prints the samples as JSON, last.

import { scenarios } from './scenarios/index.mjs';
import { World } from './lib/world.mjs';

const { scenario: name, contestant, ...options } = JSON.parse(process.argv[2]);
const scenario = scenarios.find((one) => one.name === name);
const world = new World(options);
// A trial is over when it says so, not when the loop has nothing left to wait for.
setInterval(() => {}, 60_000);
const samples = await scenario.run(world, contestant);
await world.nothingLeft();
process.stdout.write(`\n${JSON.stringify(samples)}\n`, () => process.exit(0));
