/**
 * What becomes of two plugins' daemons: started, asked, killed, hung, replaced and stopped; and then
 * whether anything is left. Run by `npm run demo`. Ends with code 1 if anything is not as promised.
 */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Census, runtimeFiles } from './census.mjs';
import { PluginLoader } from './loader.mjs';
import { Timeline } from './timeline.mjs';
import { Trial, describe } from './trial.mjs';
import { untilNothing, within } from './waiting.mjs';

const PLUGINS = fileURLToPath(new URL('plugins', import.meta.url));

// Short enough to watch; the manifests have what a plugin would really use.
const HEALTHCHECK = { interval: 250, timeout: 500, retries: 2 };
const RESTART = { delay: 100, jitter: 0 };
const GRACE_PERIOD = 2000;
// The manager's own process goes with its last daemon, but nobody waits for it.
const HELPERS_GONE = 1500;
const END_OF_PROGRAM = 3000;
const SHUTDOWN = 10_000;
const WHOLE_DEMO = 120_000;

const envsDir = await mkdtemp(join(tmpdir(), 'ally-'));
// On every way out, so that it can't be forgotten on one.
process.on('exit', () => rmSync(envsDir, { recursive: true, force: true }));

// Whether it takes its connections from the queue tells a hung daemon from a living one.
let probe = { type: 'accept' };
const loader = new PluginLoader({
  envsDir,
  configure: (config) => ({
    ...config,
    shutdownGracePeriod: GRACE_PERIOD,
    restart: RESTART,
    healthcheck: { ...HEALTHCHECK, probe },
  }),
});
const plugins = await loader.discover(PLUGINS);
const timeline = new Timeline(['demo', ...plugins.map(({ manifest }) => manifest.name)]);
const census = new Census();

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.once(signal, async () => {
    timeline.tell('demo', `stopping on ${signal}`, 'yellow');
    await loader.shutdown();
    process.exit(1);
  });
}
endAfter(WHOLE_DEMO, 'it takes too long');

try {
  timeline.tell('demo', `${plugins.length} plugins; their environments go to ${envsDir}`);
  const trials = (await runnable()).map((plugin) => new Trial(plugin, { loader, census, timeline }));
  await startWithSomeProbe(trials);
  await everyOne(trials, (trial) => trial.beAsked());
  await everyOne(trials, (trial) => trial.beHealthy());
  await everyOne(trials, (trial) => trial.beKilled());
  if (probe.type === 'accept') await everyOne(trials, (trial) => trial.hang());
  await everyOne(trials, (trial) => trial.stop());
  await lookForRemains();

  const names = trials.map(({ name }) => name).join(' and ');
  const seconds = (timeline.elapsed / 1000).toFixed(1);
  timeline.conclude(`As promised: ${names}, ${census.size} processes in ${seconds} s, and none of them left.`, 'green');
} catch (error) {
  await within(SHUTDOWN, 'the shutdown', loader.shutdown()).catch(({ message }) => timeline.tell('demo', message, 'red'));
  timeline.conclude(`FAILED: ${error.message}`, 'red');
  process.exit(1);
}
// With its last daemon gone, a program ends by itself.
endAfter(END_OF_PROGRAM, 'something keeps this program from ending');

/** Those plugins that can run here. */
async function runnable() {
  if ((await loader.environments.pythonVersion()) !== undefined) return plugins;
  return plugins.filter(({ manifest }) => {
    const needsPython = manifest.runtime === 'python3';
    if (needsPython) timeline.tell(manifest.name, 'left out: there is no python3 on PATH', 'yellow');
    return !needsPython;
  });
}

/** Not every kernel tells who waits in a socket's queue; there, hanging is left out of the story. */
async function startWithSomeProbe(trials) {
  try {
    await everyOne(trials, (trial) => trial.start());
  } catch (error) {
    if (error.code !== 'ERR_INVALID_CONFIG' || !error.message.includes("'accept' is not supported")) throw error;
    timeline.tell('demo', `no daemon will hang: ${error.message}`, 'yellow');
    probe = { type: 'socket' };
    await everyOne(trials, (trial) => trial.start());
  }
}

/** All at once; the first failure, when all have come to an end. */
async function everyOne(trials, step) {
  const results = await Promise.allSettled(trials.map(step));
  const failed = results.find(({ status }) => status === 'rejected');
  if (failed) throw failed.reason;
}

async function lookForRemains() {
  const files = await runtimeFiles(envsDir);
  report('sockets and pid files', files);
  const strays = await census.strays(envsDir);
  report(
    'processes that got away',
    strays.map((pid) => `pid ${pid}`),
  );
  const helpers = await untilNothing(HELPERS_GONE, () => census.remains());
  report(`processes out of ${census.size} seen, and children of this one`, helpers.map(describe));
}

function report(what, left) {
  if (left.length > 0) throw new Error(`${what} left: ${left.join(', ')}`);
  timeline.tell('demo', `${what}: none left`, 'green');
}

function endAfter(ms, problem) {
  const end = () => {
    timeline.conclude(`FAILED: ${problem}`, 'red');
    process.exit(1);
  };
  // Does not itself keep the program from ending.
  setTimeout(end, ms).unref();
}
