// `npm run bench`: measures every scenario with every contestant.
//
//   npm run bench                      all scenarios, several rounds each
//   npm run bench -- --quick           fewer scenarios with smaller numbers
//   npm run bench -- --rounds 2        at most this number of rounds of each scenario
//   npm run bench -- --only NAME,NAME  these scenarios alone (writes no files)
//   npm run bench -- --markdown        only prints the latest results as a Markdown table

import { spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { World } from '../__tests__/helpers/world.js';
import { scenarios } from './scenarios/index.mjs';
import { chart } from './lib/chart.mjs';
import { daemon } from './lib/daemon.mjs';
import { machine } from './lib/machine.mjs';
import { peers } from './lib/peers.mjs';
import { summary } from './lib/stats.mjs';
import { markdown, table, verdicts } from './lib/table.mjs';
import { judge } from './lib/targets.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const args = process.argv.slice(2);
const quick = args.includes('--quick');
const only = args.includes('--only') ? (args[args.indexOf('--only') + 1] ?? '').split(',') : undefined;
const atMost = args.includes('--rounds') ? Number(args[args.indexOf('--rounds') + 1]) : Infinity;
const say = (text) => process.stderr.write(`${text}\n`);

if (args.includes('--markdown')) {
  console.log(markdown(JSON.parse(readFileSync(join(here, 'results.json'), 'utf8'))));
  process.exit(0);
}
if (process.platform !== 'linux') {
  say('the benchmark reads /proc, so it runs on Linux only');
  process.exit(2);
}

const chosen = scenarios.filter(({ name, rounds }) => (only ? only.includes(name) : rounds[quick ? 'quick' : 'full'] > 0));
if (chosen.length === 0) {
  say(`no such scenario; there are: ${scenarios.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}

/** The contestants that need more than Node. */
const needs = { execa: 'execa', pm2: 'pm2', runit: 'runsv', s6: 's6' };

const world = new World({ prefix: 'bench-' });
const common = { daemon: daemon(), peers: peers(say), quick };
let trials = 0;

/** Runs a contestant in a process of its own. The trial fails if a process is left. */
async function trial(scenario, contestant) {
  const dir = world.path(String(trials));
  trials += 1;
  const order = JSON.stringify({ ...common, scenario: scenario.name, contestant, dir });
  const child = spawn(process.execPath, [...(scenario.nodeArgs ?? []), join(here, 'run-trial.mjs'), order], {
    env: { ...process.env, BENCH_WORLD: world.dir },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (data) => (text += data));
  const code = await new Promise((resolve) => child.once('close', (exit, signal) => resolve(exit ?? signal)));
  const left = await world.killSurvivors();
  rmSync(dir, { recursive: true, force: true });
  if (code !== 0) throw new Error(`${scenario.name}, ${contestant}: ended with ${code}`);
  if (left.length > 0) throw new Error(`${scenario.name}, ${contestant}: left ${left.length} processes behind`);
  return JSON.parse(text.trim().split('\n').at(-1));
}

async function measure(scenario) {
  const available = Object.keys(scenario.contestants).filter((key) => !needs[key] || common.peers[needs[key]]);
  const samples = Object.fromEntries(available.map((key) => [key, {}]));
  const keep = (contestant, result) => {
    for (const [metric, list] of Object.entries(result)) {
      samples[contestant][metric] ??= [];
      samples[contestant][metric].push(...list.filter((value) => value !== null));
    }
  };
  const rounds = Math.min(scenario.rounds[quick ? 'quick' : 'full'] || 1, atMost);
  for (let round = 0; round < rounds; round++) {
    say(`  ${scenario.name}, round ${round + 1} of ${rounds}`);
    if (scenario.together) {
      for (const [contestant, result] of Object.entries(await trial(scenario, available))) keep(contestant, result);
      continue;
    }
    // Each round begins with another contestant, so that a disturbance of the machine reaches all contestants alike.
    for (let index = 0; index < available.length; index++) {
      const contestant = available[(index + round) % available.length];
      keep(contestant, await trial(scenario, contestant));
    }
  }
  const figures = (list) =>
    Object.fromEntries(
      Object.entries(list)
        .filter(([, values]) => values.length > 0)
        .map(([metric, values]) => [metric, summary(values)]),
    );
  const contestants = Object.fromEntries(
    available.map((key) => [key, { label: scenario.contestants[key], figures: figures(samples[key]) }]),
  );
  return { title: scenario.title, metrics: scenario.metrics, contestants };
}

const results = { machine: machine(), quick, scenarios: {} };
let failed = false;
try {
  for (const scenario of chosen) {
    try {
      results.scenarios[scenario.name] = await measure(scenario);
      console.log(`\n${table(results.scenarios[scenario.name])}`);
    } catch (error) {
      failed = true;
      console.log(`\n${scenario.title}\n  FAILED: ${error.message}`);
    }
  }
} finally {
  world.remove();
}

results.targets = judge(results.scenarios);
const { cpu, cores, kernel, node } = results.machine;
if (results.targets.length > 0) console.log(`\nTargets (${cpu}, ${cores} cores, ${kernel}, Node ${node})\n${verdicts(results.targets)}`);
if (!only && !failed) {
  writeFileSync(join(here, 'results.json'), `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(join(here, 'chart.svg'), chart(results));
  console.log('\nwritten: bench/results.json, bench/chart.svg');
}
process.exit(failed ? 1 : 0);
