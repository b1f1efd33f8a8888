// Several owners share an envsDir while their processes are killed at random. The invariants are checked from outside, in
// /proc. A seed determines the decisions; their timing depends on the machine.
//
//   node __tests__/chaos/run.mjs [--seed 1] [--seconds 10] [--owners 3]

import { connect } from 'node:net';
import { fork } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { children, descriptors, environment, everyProcess, living, target, threads } from '../helpers/proc.js';
import { PYTHON } from '../helpers/python.js';
import { sleep, until } from '../helpers/until.js';
import { World } from '../helpers/world.js';
import { wholeLog } from '../logs/numbered.js';
import { belongs, helpers, limitsOf, trees } from './observe.js';

const { values } = parseArgs({
  options: { seed: { type: 'string', default: '1' }, seconds: { type: 'string', default: '10' }, owners: { type: 'string', default: '3' } },
});
const seconds = Number(values.seconds);
const NAMES = ['ash', 'birch', 'cedar', 'elm', 'fir'];
const BEHAVIOURS = ['obeys', 'obeys', 'ignores-sigterm', 'crashes', 'has-children', 'floods-output'];
const SOCKETS = ['own', 'held', 'on-demand'];
const PROBES = ['connects', 'connects', 'runs-a-command', 'waits-for-notifications'];
/** By chance a start has limits. A daemon of Python needs more than 4 MiB, so one above its memory limit is restarted. */
const LIMITS = [
  undefined,
  undefined,
  { openFiles: 64, umask: 0o027, maxMemory: 256 * 2 ** 20 },
  { openFiles: 100, umask: 0o077, maxMemory: 4 * 2 ** 20, sustain: 200 },
];
/** A grace period of 0.3 s, the promised 2 s, and 2 s for a busy machine. */
const GONE_WITHIN = 300 + 2_000 + 2_000;
const SETTLED_WITHIN = 20_000;
/** A sweep needs guardian and owner. If one of them is killed together with a keeper, the tree's end is not promised. */
const SPARED_AFTER_KEEPER = 3_000;
/** Longer than the 2 s after which a helper that does not act is killed. */
const SUSPENDED_WITHIN = 2_500;

const world = new World({ prefix: 'chaos-' });
const { envsDir } = world;
const counts = {};
const violations = [];
const owners = new Map();
let tickets = 0;
let spawned = 0;
/** The log processes that were killed, by the path of the log. */
const logKills = new Map();
/** The longest time in ms for which a pid file named a process without an environment. */
let longest = 0;

/** mulberry32 */
let state = Number(values.seed) >>> 0;
function random() {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = state;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const pick = (list) => list[Math.floor(random() * list.length)];
const count = (outcome) => (counts[outcome] = (counts[outcome] ?? 0) + 1);

function violated(description) {
  violations.push(description);
  console.error(`VIOLATION: ${description}`);
}

async function spawnOwner() {
  spawned += 1;
  const id = `owner-${spawned}`;
  const child = fork(new URL('owner.mjs', import.meta.url), [world.dir, id], {
    env: { ...process.env, TEST_PYTHON: PYTHON },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const owner = { id, child, waiting: new Map(), keeperKilled: 0, suspended: false, gone: false, history: [] };
  owners.set(id, owner);
  child.on('message', ({ ticket, ...outcome }) => {
    owner.waiting.get(ticket)?.(outcome);
    owner.waiting.delete(ticket);
  });
  child.on('exit', () => {
    owner.gone = true;
    owners.delete(id);
    for (const settle of owner.waiting.values()) settle({ code: 'OWNER_GONE' });
  });
  await new Promise((resolve) => child.once('message', resolve));
  return owner;
}

/** Resolves to the outcome of an order. A missing outcome is a violation. */
async function ask(owner, verb, order = {}) {
  count(verb);
  tickets += 1;
  const ticket = tickets;
  const settled = new Promise((resolve) => owner.waiting.set(ticket, resolve));
  owner.child.send({ ticket, verb, ...order }, () => {});
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, SETTLED_WITHIN);
  });
  const outcome = await Promise.race([settled, late]);
  clearTimeout(timer);
  if (!outcome) violated(`${verb} ${order.name ?? ''} of ${owner.id} did not settle within ${SETTLED_WITHIN} ms`);
  else if (outcome.code) count(outcome.code);
  if (outcome?.code === 'NO_CODE') violated(`${verb} failed without a code: ${outcome.message}`);
  // A typing error in this folder would end the start, and with it the test of what it starts.
  if (outcome?.code === 'ERR_INVALID_CONFIG') violated(`${verb} was refused: ${outcome.message}`);
  return outcome;
}

/** Keeps the last actions on an owner's processes, for the report of a violation. */
function noted(owner, action) {
  if (!owner) return;
  owner.history.push(`${(performance.now() / 1_000).toFixed(3)} s ${action}`);
  if (owner.history.length > 20) owner.history.shift();
}

const described = ({ pid, ppid, session, name, plugin }) =>
  `${plugin ?? ''} ${pid} (${name}, session ${session}, parent ${ppid} ${living(ppid)?.name ?? ''})`;

function kill(pid, signal, action, owner) {
  try {
    process.kill(pid, signal);
    count(action);
    noted(owner, `${action} ${pid}`);
  } catch {
    // It has ended in the meantime.
  }
}

/** Suspends a guardian or a keeper of an owner for a while, one at a time: two of them could not continue each other. */
async function suspend(owner, { pid, start }, action) {
  owner.suspended = true;
  kill(pid, 'SIGSTOP', action, owner);
  await sleep(random() * SUSPENDED_WITHIN);
  owner.suspended = false;
  if (living(pid)?.start === start) kill(pid, 'SIGCONT', 'continued', owner);
}

/** Starts a daemon that starts at its first connection. */
function connectTo(name) {
  count('connection');
  const client = connect(`${envsDir}/${name}.sock`);
  client.on('error', () => {}).on('connect', () => setTimeout(() => client.destroy(), random() * 300));
}

async function killOwner(owner) {
  count('owner killed');
  noted(owner, 'owner killed');
  owner.child.kill('SIGKILL');
  await new Promise((resolve) => (owner.gone ? resolve() : owner.child.once('exit', resolve)));
  const left = () => trees(envsDir).filter((process) => process.owner === owner.id);
  await until(() => left().length === 0, GONE_WITHIN).catch(() =>
    violated(`${owner.id} is dead, and its daemons are not: ${left().map(described).join(', ')}\n  ${owner.history.join('\n  ')}`),
  );
}

/** Two leaders of a plugin mean two owners, or a restart beside the old tree. */
function checkLeaders() {
  const leaders = trees(envsDir).filter(({ ppid, session, name }) => ppid === session && name.startsWith('python'));
  checkLimits(leaders);
  for (const plugin of NAMES) {
    const seen = leaders.filter((leader) => leader.plugin === plugin && hasKeeper(leader));
    // If a leader ends, its child in the group gets the keeper as parent. The leader was perhaps seen before.
    const now = seen.length > 1 ? seen.filter(({ pid, start }) => living(pid)?.start === start) : seen;
    // During an upgrade there are two, of one owner.
    if (now.length > 2 || now.some(({ owner }) => owner !== now[0].owner))
      violated(`${plugin} has ${now.length} leaders: ${now.map(({ pid, owner }) => `${pid} of ${owner}`).join(', ')}`);
  }
}

/** The limits that a leader has must be those of its start. */
function checkLimits(leaders) {
  for (const { pid, start, limits, plugin } of leaders.filter((leader) => leader.limits && hasKeeper(leader))) {
    const has = limitsOf(pid);
    if (living(pid)?.start === start && has && has !== limits)
      violated(`${plugin} (${pid}) has the limits ${has}, and was to have ${limits}`);
  }
}

/** The keeper makes the POSIX session. The parent of a leader is its keeper. */
const hasKeeper = ({ ppid }) => living(ppid)?.name === 'ally-keeper';

function pidFileOf(plugin) {
  try {
    return Number(readFileSync(`${envsDir}/${plugin}/daemon.pid`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** In ms. A process in execve(2) has no environment for a moment, nor has a process that exits. */
const WITHOUT_ENVIRONMENT = 2_000;

async function checkPidFiles() {
  for (const plugin of NAMES) {
    const began = performance.now();
    let found = named(plugin);
    while (found && !found.daemon) {
      const waited = performance.now() - began;
      longest = Math.max(longest, waited);
      if (found.environment || waited > WITHOUT_ENVIRONMENT) {
        violated(`the pid file of ${plugin} names a process that is none of its daemons: ${JSON.stringify(found)}`);
        break;
      }
      count(found.exiting ? 'scans of an exiting process' : 'scans of a process in execve');
      await sleep(5);
      found = named(plugin);
    }
  }
}

/** The living process that a pid file names. `daemon`: it belongs to the plugin. */
function named(plugin) {
  const pid = pidFileOf(plugin);
  const process = pid && living(pid);
  if (!process) return undefined;
  const variables = environment(pid);
  const found = {
    ...process,
    parentName: living(process.ppid)?.name,
    environment: variables.size,
    daemon: belongs(variables, envsDir) && variables.get('CHAOS_NAME') === plugin,
  };
  // Only if the process is still the same, and the file still names it.
  return pidFileOf(plugin) === pid && living(pid)?.start === process.start ? found : undefined;
}

/** Of this run. */
const writesLogs = ({ name, pid }) =>
  name === 'ally-log' && descriptors(pid).some((descriptor) => target(pid, descriptor)?.startsWith(world.dir));

/** Of this run: the log file of a log process. */
const logOf = ({ pid }) =>
  descriptors(pid)
    .map((descriptor) => target(pid, descriptor))
    .find((path) => path?.startsWith(`${world.dir}/`) && /\.log$/.test(path));

function killLog(log) {
  // Before the kill, because a marker may follow at once.
  const file = logOf(log);
  for (const path of file ? [file] : NAMES.map((name) => world.path(`${name}.log`))) logKills.set(path, (logKills.get(path) ?? 0) + 1);
  kill(log.pid, 'SIGKILL', 'log process killed');
}

/**
 * Every line of every process once and in order; the last one may be cut by SIGKILL. A killed log process may lose lines that it has
 * read and not written, and break the two at the edges of this gap.
 */
function checkLog(file) {
  const kills = logKills.get(file) ?? 0;
  const next = new Map();
  let broken = 0;
  for (const line of existsSync(file) ? wholeLog(file).split('\n').slice(0, -1) : []) {
    const [, pid, number] = /^(\d+) (\d+) x{80}$/.exec(line) ?? [];
    if (kills > 0 && line === '[ally] the log process was killed: lines may be missing here') count('log markers');
    else if (pid === undefined) broken += 1;
    else {
      const expected = next.get(pid) ?? 0;
      if (Number(number) < expected || (kills === 0 && Number(number) !== expected))
        violated(`${file}: line ${number} of ${pid} after ${expected} lines`);
      next.set(pid, Number(number) + 1);
      count('log lines');
    }
  }
  if (broken > 2 * kills) violated(`${file}: ${broken} lines are broken, after ${kills} kills of its log process`);
}

async function step(pending) {
  const list = [...owners.values()];
  if (list.length < Number(values.owners)) await spawnOwner();
  const owner = pick(list.length > 0 ? list : [...owners.values()]);
  const name = pick(NAMES);
  const draw = random();
  const later = (promise) => pending.add(promise.finally(() => pending.delete(promise)));
  const daemons = () => trees(envsDir).filter(hasKeeper);
  const spared = performance.now() - owner.keeperKilled <= SPARED_AFTER_KEEPER;
  const ownerOf = (daemon) => owners.get(daemon.owner);
  if (draw < 0.4) {
    const behaviour = pick(BEHAVIOURS);
    const logs = random() < 0.5 ? { maxSize: pick([5_000, 50_000, 10_000_000]), compress: random() < 0.5 } : undefined;
    const probes = pick(PROBES);
    const limits = pick(LIMITS);
    const sockets = pick(SOCKETS);
    count(`start whose probe ${probes}`);
    count(`start with sockets ${sockets}`);
    if (limits) count('start with limits');
    noted(owner, `start of ${name}, ${behaviour}, probe ${probes}${limits ? ', limits' : ''}`);
    later(ask(owner, 'start', { name, behaviour, probes, sockets, logs, limits }));
  } else if (draw < 0.43) {
    const [log] = everyProcess().filter(writesLogs);
    if (log) killLog(log);
  } else if (draw < 0.5) later(ask(owner, 'upgrade', { name, behaviour: pick(BEHAVIOURS) }));
  else if (draw < 0.54) connectTo(name);
  else if (draw < 0.6) later(ask(owner, 'stop', { name }));
  else if (draw < 0.7) later(ask(owner, 'restart', { name }));
  else if (draw < 0.82) {
    for (const daemon of daemons().slice(0, 1)) kill(daemon.pid, 'SIGKILL', 'daemon killed', ownerOf(daemon));
  } else if (draw < 0.88) {
    for (const daemon of daemons().slice(-1)) kill(daemon.pid, 'SIGSTOP', 'daemon stopped', ownerOf(daemon));
  } else if (draw < 0.9 && !owner.suspended) {
    const { guardians, keepers } = helpers(owner.child.pid);
    const [kind, found] = draw < 0.89 ? ['guardian', guardians[0]] : ['keeper', keepers.at(-1)];
    if (found) later(suspend(owner, found, `${kind} suspended`));
  } else if (draw < 0.92 && !spared) {
    for (const { pid } of helpers(owner.child.pid).guardians) kill(pid, 'SIGKILL', 'guardian killed', owner);
  } else if (draw >= 0.92 && draw < 0.95) {
    const [keeper] = helpers(owner.child.pid).keepers;
    if (keeper) {
      owner.keeperKilled = performance.now();
      kill(keeper.pid, 'SIGKILL', 'keeper killed', owner);
    }
  } else if (draw >= 0.95 && !spared) later(killOwner(owner));
  await checkPidFiles();
  checkLeaders();
  await sleep(random() * 60);
}

const unrelated = await Promise.all(
  Array.from({ length: 4 }, async (_, index) => {
    const child = fork(new URL('unrelated.mjs', import.meta.url), ['daemon.py', 'obeys'], {
      detached: index % 2 === 0,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    await new Promise((resolve) => child.once('message', resolve));
    child.on('message', ({ signal }) => violated(`an unrelated process got ${signal}`));
    child.on('exit', (code, signal) => child.connected && violated(`an unrelated process ended (${signal ?? code})`));
    return child;
  }),
);

const pending = new Set();
const end = performance.now() + seconds * 1_000;
while (performance.now() < end) await step(pending);
await Promise.all(pending);

// The remaining owners stop every daemon, and then hold the descriptors and threads of one start and stop.
for (const owner of owners.values()) await ask(owner, 'stopAll');
const left = () => [
  ...trees(envsDir),
  ...[...owners.values()].flatMap(({ child }) => children(child.pid).map(({ pid }) => living(pid) ?? { pid })),
];
await until(() => left().length === 0, 5_000).catch(() => {
  for (const process of left()) violated(`left behind: ${described(process)} of ${process.owner ?? ''}`);
});
for (const { id, child } of owners.values()) {
  // Node's descriptors, the supervisor's epoll, eventfd and inotify, and those of the first start.
  const open = descriptors(child.pid).length;
  if (open > 40) violated(`${id} has ${open} descriptors open after the stop of every daemon`);
  // A thread that has opened a log file ends a second later.
  await until(() => threads(child.pid).length <= 14, 5_000).catch(() => {});
  const running = threads(child.pid).length;
  if (running > 14) violated(`${id} has ${running} threads after the stop of every daemon`);
}
await until(() => !everyProcess().some(writesLogs), 15_000).catch(() => violated('a log process is left behind'));
for (const name of NAMES) checkLog(world.path(`${name}.log`));
const records = (existsSync(envsDir) ? readdirSync(envsDir, { recursive: true }) : []).filter((file) =>
  /daemon\.(pid|id)$|\.new$/.test(file),
);
const stale = records.filter((file) => file.endsWith('.pid') && living(Number(readFileSync(`${envsDir}/${file}`, 'utf8'))));
for (const file of stale) violated(`${file} names a living process`);

for (const process of unrelated) process.disconnect();
for (const { child } of owners.values()) child.disconnect();
for (const { pid, command } of await world.killSurvivors()) violated(`left behind: ${pid} ${command}`);
world.remove();
const operations = Object.values(counts).reduce((sum, n) => sum + n, 0);
console.log(`seed ${values.seed}, ${seconds} s, ${spawned} owners, ${operations} operations and outcomes:`, counts);
console.log(`a pid file named a process without an environment for up to ${longest.toFixed(0)} ms`);
console.log(violations.length === 0 ? 'no invariant was violated' : `${violations.length} violations`);
process.exitCode = violations.length === 0 ? 0 : 1;
