// Runs one contestant of one scenario in a process of its own, so that heap, caches and compiled code of another contestant do
// not count. run.mjs starts it. The last line of stdout has the samples as JSON.

import { scenarios } from './scenarios/index.mjs';
import { Trial } from './lib/trial.mjs';

const { scenario: name, contestant, ...options } = JSON.parse(process.argv[2]);
const scenario = scenarios.find((candidate) => candidate.name === name);
const trial = new Trial(options);
// Keeps the event loop alive until the trial ends.
setInterval(() => {}, 60_000);
const samples = await scenario.run(trial, contestant);
await trial.nothingLeft();
process.stdout.write(`\n${JSON.stringify(samples)}\n`, () => process.exit(0));
