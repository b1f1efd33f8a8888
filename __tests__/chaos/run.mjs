// Several owners share an envsDir while their processes are killed at random. The invariants are checked from outside, in
// /proc. A seed determines the decisions; their timing depends on the machine.
//
//   node __tests__/chaos/run.mjs [--seed 1] [--seconds 10] [--owners 3]

import { connect } from 'node:net';
import { fork } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { children, descriptors, environment, everyProcess, living, target, threads } from '../helpers/proc.js';
import { sleep, until } from '../helpers/until.js';
import { World } from '../helpers/world.js';
import { wholeLog } from '../logs/numbered.js';
import { Chaos, described } from './chaos.mjs';
import { belongs, helpers, limitsOf, trees } from './observe.js';

const { values } = parseArgs({
  options: { seed: { type: 'string', default: '1' }, seconds: { type: 'string', default: '10' }, owners: { type: 'string', default: '3' } },
});
const seconds = Number(values.seconds);
const NAMES = ['ash', 'birch', 'cedar', 'elm', 'fir'];
const BEHAVIOURS = ['obeys', 'obeys', 'ignores-sigterm', 'crashes', 'has-children', 'floods-output'];
const SOCKETS = ['own', 'held', 'on-demand'];
const PROBES = ['connects', 'connects', 'runs-a-command', 'waits-for-notifications'];
/** Of an owner that lives as long as the run, and never stops them: no connection to them is refused. By name: their sockets. */
const OPEN = { oak: 'held', pine: 'on-demand' };
/** By chance a start has limits. A daemon of Python needs more than 4 MiB, so one above its memory limit is restarted. */
const LIMITS = [
  undefined,
  undefined,
  { openFiles: 64, umask: 0o027, maxMemory: 256 * 2 ** 20 },
  { openFiles: 100, umask: 0o077, maxMemory: 4 * 2 ** 20, sustain: 200 },
];
/** A grace period of 0.3 s, the promised 2 s, and 2 s for a busy machine. */
const GONE_WITHIN = 300 + 2_000 + 2_000;
/** A sweep needs guardian and owner. If one of them is killed together with a keeper, the tree's end is not promised. */
const SPARED_AFTER_KEEPER = 3_000;

const world = new World({ prefix: 'chaos-' });
const { envsDir } = world;
const chaos = new Chaos({ seed: values.seed, dir: world.dir });
const { owners } = chaos;
/** The log processes that were killed, by the path of the log. */
const logKills = new Map();
/** The longest time in ms for which a pid file named a process without an environment. */
let longest = 0;

/** Starts a daemon that starts at its first connection. */
function connectTo(name) {
  chaos.count('connection');
  const client = connect(`${envsDir}/${name}.sock`);
  client.on('error', () => {}).on('connect', () => setTimeout(() => client.destroy(), chaos.random() * 300));
}

/** A connection that must not be refused, whatever happens to daemon, keeper and guardian. */
function visit(name) {
  chaos.count(`connection to a socket that stays, ${OPEN[name]}`);
  const client = connect(`${envsDir}/${name}.sock`);
  // A killed daemon resets what it has accepted.
  client.on('error', ({ code }) => code !== 'ECONNRESET' && chaos.later(refused(name, code)));
  client.on('connect', () => setTimeout(() => client.destroy(), chaos.random() * 300));
}

/** Only of a running one: an upgrade of one that does not run is a start, and a start that fails closes the socket. */
async function upgradeSteady(name) {
  const { value } = (await chaos.ask(steady, 'know', { name })) ?? {};
  if (value?.state !== 'running' && !value?.armed) return;
  chaos.noted(steady, `upgrade of ${name}`);
  const outcome = await chaos.ask(steady, 'upgrade', { name, behaviour: 'obeys' });
  chaos.noted(steady, `upgrade of ${name}: ${outcome ? (outcome.code ?? 'done') : 'not settled'}`);
}

async function refused(name, code) {
  const files = readdirSync(envsDir).filter((file) => file.startsWith(`${name}.`));
  const { value } = (await chaos.ask(steady, 'know', { name })) ?? {};
  const known = `${value?.state}${value?.armed ? ', armed' : ''}, ${value?.lastError}`;
  chaos.violated(`${name} (${OPEN[name]}, ${known}) refused a connection: ${code}, beside ${files}\n  ${steady.history.join('\n  ')}`);
}

async function killOwner(owner) {
  chaos.count('owner killed');
  chaos.noted(owner, 'owner killed');
  owner.child.kill('SIGKILL');
  await new Promise((resolve) => (owner.gone ? resolve() : owner.child.once('exit', resolve)));
  const left = () => trees(envsDir).filter((process) => process.owner === owner.id);
  await until(() => left().length === 0, GONE_WITHIN).catch(() =>
    chaos.violated(`${owner.id} is dead, and its daemons are not: ${left().map(described).join(', ')}\n  ${owner.history.join('\n  ')}`),
  );
}

/** Two leaders of a plugin mean two owners, or a restart beside the old tree. */
function checkLeaders() {
  const leaders = trees(envsDir).filter(({ ppid, session, name }) => ppid === session && name.startsWith('python'));
  checkLimits(leaders);
  for (const plugin of [...NAMES, ...Object.keys(OPEN)]) {
    const seen = leaders.filter((leader) => leader.plugin === plugin && hasKeeper(leader));
    // If a leader ends, its child in the group gets the keeper as parent. The leader was perhaps seen before.
    const now = seen.length > 1 ? seen.filter(({ pid, start }) => living(pid)?.start === start) : seen;
    // During an upgrade there are two, of one owner.
    if (now.length > 2 || now.some(({ owner }) => owner !== now[0].owner))
      chaos.violated(`${plugin} has ${now.length} leaders: ${now.map(({ pid, owner }) => `${pid} of ${owner}`).join(', ')}`);
  }
}

/** The limits that a leader has must be those of its start. */
function checkLimits(leaders) {
  for (const { pid, start, limits, plugin } of leaders.filter((leader) => leader.limits && hasKeeper(leader))) {
    const has = limitsOf(pid);
    if (living(pid)?.start === start && has && has !== limits)
      chaos.violated(`${plugin} (${pid}) has the limits ${has}, and was to have ${limits}`);
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
        chaos.violated(`the pid file of ${plugin} names a process that is none of its daemons: ${JSON.stringify(found)}`);
        break;
      }
      chaos.count(found.exiting ? 'scans of an exiting process' : 'scans of a process in execve');
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
  chaos.kill(log.pid, 'SIGKILL', 'log process killed');
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
    const [, writer, number] = /^(\d+) (\d+) x{80}$/.exec(line) ?? [];
    if (kills > 0 && line === '[ally] the log process was killed: lines may be missing here') chaos.count('log markers');
    else if (writer === undefined) broken += 1;
    else {
      const expected = next.get(writer) ?? 0;
      if (Number(number) < expected || (kills === 0 && Number(number) !== expected))
        chaos.violated(`${file}: line ${number} of ${writer} after ${expected} lines`);
      next.set(writer, Number(number) + 1);
      chaos.count('log lines');
    }
  }
  if (broken > 2 * kills) chaos.violated(`${file}: ${broken} lines are broken, after ${kills} kills of its log process`);
}

async function step() {
  const list = [...owners.values()];
  if (list.length < Number(values.owners)) await chaos.spawnOwner();
  const name = chaos.pick(NAMES);
  const draw = chaos.random();
  visit('oak');
  // Rarely, so that it is idle in between.
  if (chaos.random() < 0.02) visit('pine');
  // To what stays open anything may happen but the owner's end and a stop.
  const concernsHelpers = draw >= 0.88 && draw < 0.95;
  const owner = chaos.pick([...(list.length > 0 ? list : owners.values()), ...(concernsHelpers ? [steady] : [])]);
  const daemons = () => trees(envsDir).filter(hasKeeper);
  const spared = performance.now() - owner.keeperKilled <= SPARED_AFTER_KEEPER;
  const ownerOf = (daemon) => (daemon.owner === steady.id ? steady : owners.get(daemon.owner));
  if (draw < 0.4) {
    const behaviour = chaos.pick(BEHAVIOURS);
    const logs = chaos.random() < 0.5 ? { maxSize: chaos.pick([5_000, 50_000, 10_000_000]), compress: chaos.random() < 0.5 } : undefined;
    const probes = chaos.pick(PROBES);
    const limits = chaos.pick(LIMITS);
    const sockets = chaos.pick(SOCKETS);
    chaos.count(`start whose probe ${probes}`);
    chaos.count(`start with sockets ${sockets}`);
    if (limits) chaos.count('start with limits');
    chaos.noted(owner, `start of ${name}, ${behaviour}, probe ${probes}${limits ? ', limits' : ''}`);
    chaos.later(chaos.ask(owner, 'start', { name, behaviour, probes, sockets, logs, limits }));
  } else if (draw < 0.43) {
    const [log] = everyProcess().filter(writesLogs);
    if (log) killLog(log);
  } else if (draw < 0.44) chaos.later(upgradeSteady(chaos.pick(Object.keys(OPEN))));
  else if (draw < 0.5) chaos.later(chaos.ask(owner, 'upgrade', { name, behaviour: chaos.pick(BEHAVIOURS) }));
  else if (draw < 0.54) connectTo(name);
  else if (draw < 0.6) chaos.later(chaos.ask(owner, 'stop', { name }));
  else if (draw < 0.7) chaos.later(chaos.ask(owner, 'restart', { name }));
  else if (draw < 0.82) {
    for (const daemon of daemons().slice(0, 1)) chaos.kill(daemon.pid, 'SIGKILL', 'daemon killed', ownerOf(daemon));
  } else if (draw < 0.88) {
    for (const daemon of daemons().slice(-1)) chaos.kill(daemon.pid, 'SIGSTOP', 'daemon stopped', ownerOf(daemon));
  } else if (draw < 0.9 && !owner.suspended) {
    const { guardians, keepers } = helpers(owner.child.pid);
    const [kind, found] = draw < 0.89 ? ['guardian', guardians[0]] : ['keeper', keepers.at(-1)];
    if (found) chaos.later(chaos.suspend(owner, found, `${kind} suspended`));
  } else if (draw < 0.92 && !spared) {
    for (const { pid } of helpers(owner.child.pid).guardians) chaos.kill(pid, 'SIGKILL', 'guardian killed', owner);
  } else if (draw >= 0.92 && draw < 0.95) {
    const [keeper] = helpers(owner.child.pid).keepers;
    if (keeper) {
      owner.keeperKilled = performance.now();
      chaos.kill(keeper.pid, 'SIGKILL', 'keeper killed', owner);
    }
  } else if (draw >= 0.95 && !spared) chaos.later(killOwner(owner));
  await checkPidFiles();
  checkLeaders();
  await sleep(chaos.random() * 60);
}

const unrelated = await Promise.all(
  Array.from({ length: 4 }, async (_, index) => {
    const child = fork(new URL('unrelated.mjs', import.meta.url), ['daemon.py', 'obeys'], {
      detached: index % 2 === 0,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    await new Promise((resolve) => child.once('message', resolve));
    child.on('message', ({ signal }) => chaos.violated(`an unrelated process got ${signal}`));
    child.on('exit', (code, signal) => child.connected && chaos.violated(`an unrelated process ended (${signal ?? code})`));
    return child;
  }),
);

const steady = await chaos.spawnOwner();
owners.delete(steady.id);
for (const [name, sockets] of Object.entries(OPEN)) {
  const { code } = await chaos.ask(steady, 'start', {
    name,
    behaviour: 'obeys',
    probes: 'connects',
    sockets,
    idleTimeout: 1_000,
    maxAttempts: 1_000,
  });
  if (code) throw new Error(`${name} was not started: ${code}`);
}

const end = performance.now() + seconds * 1_000;
while (performance.now() < end) await step();
await chaos.settled();
owners.set(steady.id, steady);

// The remaining owners stop every daemon, and then hold the descriptors and threads of one start and stop.
for (const owner of owners.values()) await chaos.ask(owner, 'stopAll');
const left = () => [
  ...trees(envsDir),
  ...[...owners.values()].flatMap(({ child }) => children(child.pid).map(({ pid }) => living(pid) ?? { pid })),
];
await until(() => left().length === 0, 5_000).catch(() => {
  for (const process of left()) chaos.violated(`left behind: ${described(process)} of ${process.owner ?? ''}`);
});
for (const { id, child } of owners.values()) {
  // Node's descriptors, the supervisor's epoll, eventfd and inotify, and those of the first start.
  const open = descriptors(child.pid).length;
  if (open > 40) chaos.violated(`${id} has ${open} descriptors open after the stop of every daemon`);
  // A thread that has opened a log file ends a second later.
  await until(() => threads(child.pid).length <= 14, 5_000).catch(() => {});
  const running = threads(child.pid).length;
  if (running > 14) chaos.violated(`${id} has ${running} threads after the stop of every daemon`);
}
await until(() => !everyProcess().some(writesLogs), 15_000).catch(() => chaos.violated('a log process is left behind'));
for (const name of NAMES) checkLog(world.path(`${name}.log`));
const records = (existsSync(envsDir) ? readdirSync(envsDir, { recursive: true }) : []).filter((file) =>
  /daemon\.(pid|id)$|\.new$/.test(file),
);
const stale = records.filter((file) => file.endsWith('.pid') && living(Number(readFileSync(`${envsDir}/${file}`, 'utf8'))));
for (const file of stale) chaos.violated(`${file} names a living process`);

for (const process of unrelated) process.disconnect();
for (const { child } of owners.values()) child.disconnect();
for (const { pid, command } of await world.killSurvivors()) chaos.violated(`left behind: ${pid} ${command}`);
world.remove();
console.log(`a pid file named a process without an environment for up to ${longest.toFixed(0)} ms`);
chaos.report({ seed: values.seed, seconds });
