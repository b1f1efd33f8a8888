/**
 * Starts the daemons of two plugins, one of them at its first connection, sends requests, kills and stops them, lets them
 * hang or idle, and then looks for processes and files that are left. In the end two sessions share one daemon. `npm run demo`
 * runs it. The exit code is 1 if a promise is broken.
 */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { untilEmpty, within } from './deadlines.mjs';
import { PluginLoader } from './loader.mjs';
import { PluginSteps, describe } from './plugin-steps.mjs';
import { SeenProcesses, runtimeFiles } from './seen-processes.mjs';
import { shareOneDaemon } from './sessions.mjs';
import { Timeline } from './timeline.mjs';

const PLUGINS = fileURLToPath(new URL('plugins', import.meta.url));

// Shorter than in the manifests, so that the demo takes a few seconds.
const HEALTHCHECK = { interval: 250, timeout: 500, retries: 2 };
const RESTART = { delay: 100, jitter: 0 };
const GRACE_PERIOD = 2000;
const IDLE_TIMEOUT = 500;
// The guardian exits after its last daemon, but `stopProcess` does not wait for it.
const GUARDIAN_TIMEOUT = 1500;
// The host of shared daemons leaves a second after the last one, and its guardian after it.
const HOST_TIMEOUT = 5000;
const EXIT_TIMEOUT = 3000;
const SHUTDOWN_TIMEOUT = 10_000;
const DEMO_TIMEOUT = 120_000;

const envsDir = await mkdtemp(join(tmpdir(), 'ally-'));
// 'exit' is emitted on every path, also after a failure.
process.on('exit', () => rmSync(envsDir, { recursive: true, force: true }));

// The probe `accept` detects a hung daemon, because it accepts no connections.
let probe = { type: 'accept' };
// Plugins that are started by their first connection need the same answer of the kernel.
let onDemand = true;
const loader = new PluginLoader({
  envsDir,
  configure: ({ socket, start, idleTimeout, ...config }) => ({
    ...config,
    ...(start && onDemand && { socket, start, idleTimeout: IDLE_TIMEOUT }),
    shutdownGracePeriod: GRACE_PERIOD,
    restart: RESTART,
    healthcheck: { ...HEALTHCHECK, probe },
  }),
});
const plugins = await loader.discover(PLUGINS);
const timeline = new Timeline(['session 1', ...plugins.map(({ manifest }) => manifest.name)]);
const seen = new SeenProcesses();

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.once(signal, async () => {
    timeline.print('demo', `stopping on ${signal}`, 'yellow');
    await loader.shutdown();
    process.exit(1);
  });
}
failAfter(DEMO_TIMEOUT, 'the demo takes too long');

try {
  timeline.print('demo', `${plugins.length} plugins with their environments in ${envsDir}`);
  const runs = (await runnable()).map((plugin) => new PluginSteps(plugin, { loader, seen, timeline }));
  await startWithSupportedProbe(runs);
  await inParallel(runs, (run) => run.request());
  const kept = runs.filter((run) => !run.isOnDemand);
  await inParallel(kept, (run) => run.awaitHealthy());
  await inParallel(runs, (run) => run.kill());
  await inParallel(runs, async (run) => {
    if (run.isOnDemand) await run.idle();
    else if (probe.type === 'accept') await run.hang();
  });
  await inParallel(runs, (run) => run.stop());
  await checkNothingIsLeft();
  const plugin = plugins.find(({ manifest }) => manifest.name === 'notes');
  await shareOneDaemon({ envsDir, plugin, timeline, note: (pid) => seen.noteShared(plugin.manifest.name, pid) });
  await checkNothingIsLeft(HOST_TIMEOUT);

  const names = runs.map(({ name }) => name).join(' and ');
  const seconds = (timeline.elapsed / 1000).toFixed(1);
  timeline.conclude(`Done: ${names}, ${seen.size} processes in ${seconds} s, none left.`, 'green');
} catch (error) {
  await within(SHUTDOWN_TIMEOUT, 'the shutdown', loader.shutdown()).catch(({ message }) => timeline.print('demo', message, 'red'));
  timeline.conclude(`FAILED: ${error.message}`, 'red');
  process.exit(1);
}
// After the last daemon is gone, a program ends by itself.
failAfter(EXIT_TIMEOUT, 'the program does not end by itself');

/** The plugins whose runtime exists on this system. */
async function runnable() {
  if ((await loader.environments.pythonVersion()) !== undefined) return plugins;
  return plugins.filter(({ manifest }) => {
    const needsPython = manifest.runtime === 'python3';
    if (needsPython) timeline.print(manifest.name, 'left out: no python3 on PATH', 'yellow');
    return !needsPython;
  });
}

/**
 * Starts with the probe `accept`, and with what is on demand. If the kernel does not show the queues of sockets, starts with
 * `socket` and everything at once, and the hang is left out.
 */
async function startWithSupportedProbe(runs) {
  try {
    await inParallel(runs, (run) => run.start());
  } catch (error) {
    const isUnsupported = error.code === 'ERR_UNSUPPORTED' || error.message.includes("'accept' is not supported");
    if (!isUnsupported) throw error;
    timeline.print('demo', `without the hang: ${error.message}`, 'yellow');
    probe = { type: 'socket' };
    onDemand = false;
    await inParallel(runs, (run) => run.start());
  }
}

/** Runs a step for every plugin at once. Rejects with the first failure after every step has settled. */
async function inParallel(runs, step) {
  const results = await Promise.allSettled(runs.map(step));
  const failed = results.find(({ status }) => status === 'rejected');
  if (failed) throw failed.reason;
}

async function checkNothingIsLeft(timeout = GUARDIAN_TIMEOUT) {
  const files = await untilEmpty(timeout, () => runtimeFiles(envsDir));
  checkEmpty('sockets and pid files', files);
  const detached = await seen.detached(envsDir);
  checkEmpty(
    'detached processes',
    detached.map((pid) => `pid ${pid}`),
  );
  const remaining = await untilEmpty(timeout, () => seen.remaining());
  checkEmpty(`processes out of ${seen.size} seen, and descendants of this process`, remaining.map(describe));
}

function checkEmpty(kind, left) {
  if (left.length > 0) throw new Error(`${kind} left: ${left.join(', ')}`);
  timeline.print('demo', `${kind}: none left`, 'green');
}

function failAfter(ms, problem) {
  const fail = () => {
    timeline.conclude(`FAILED: ${problem}`, 'red');
    process.exit(1);
  };
  // Without `unref` the timer would keep the program running.
  setTimeout(fail, ms).unref();
}
