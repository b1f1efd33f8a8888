// Several owners, one envs folder, and an adversary who kills at random. The invariants are checked
// from outside. The same seed makes the same decisions (their timing is the machine's).
//
//   node chaos/run.mjs [--seed 1] [--seconds 10] [--owners 3]

import { execFileSync, fork } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { belongs, environmentOf, everyone, helpers, look, marked } from './world.mjs';

const { values } = parseArgs({
  options: { seed: { type: 'string', default: '1' }, seconds: { type: 'string', default: '10' }, owners: { type: 'string', default: '3' } },
});
const seconds = Number(values.seconds);
const NAMES = ['ash', 'birch', 'cedar', 'elm', 'fir'];
const CHARACTERS = ['willing', 'willing', 'stubborn', 'crashing', 'family', 'flooding'];
/** Grace 0.3 s, and the contract's 2 s, and a busy machine. */
const GONE_WITHIN = 300 + 2_000 + 2_000;
const SETTLED_WITHIN = 20_000;
/** A sweep needs guardian and owner for a moment: who kills one of them together with a keeper is beyond the promise (README, limits). */
const SPARED_AFTER_KEEPER = 3_000;

const envsDir = mkdtempSync('/tmp/chaos-');
/** Not a shim, which would be another program for a moment. */
const python = execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
const counts = {};
const violations = [];
const owners = new Map();
let tickets = 0;
let born = 0;
/** The longest that a pid file has named a process whose environment was gone, in ms. */
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
const count = (what) => (counts[what] = (counts[what] ?? 0) + 1);

function violated(what) {
  violations.push(what);
  console.error(`VIOLATION: ${what}`);
}

async function spawnOwner() {
  const id = `owner-${++born}`;
  const child = fork(new URL('owner.mjs', import.meta.url), [envsDir, id, python], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const owner = { id, child, waiting: new Map(), keeperKilled: 0, gone: false, history: [] };
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

/** Resolves with the outcome; it is a violation if there is none. */
async function ask(owner, verb, order = {}) {
  count(verb);
  const ticket = ++tickets;
  const settled = new Promise((resolve) => owner.waiting.set(ticket, resolve));
  owner.child.send({ ticket, verb, ...order }, () => {});
  const outcome = await Promise.race([settled, pause(SETTLED_WITHIN, undefined, { ref: false })]);
  if (!outcome) violated(`${verb} ${order.name ?? ''} of ${owner.id} did not settle within ${SETTLED_WITHIN} ms`);
  else if (outcome.code) count(outcome.code);
  if (outcome?.code === 'NO_CODE') violated(`${verb} failed without a code: ${outcome.message}`);
  return outcome;
}

/** What was done to an owner's processes, for the report of what went wrong. */
function noted(owner, what) {
  if (!owner) return;
  owner.history.push(`${(performance.now() / 1_000).toFixed(3)} s ${what}`);
  if (owner.history.length > 20) owner.history.shift();
}

const told = ({ pid, parent, session, name, plugin }) =>
  `${plugin ?? ''} ${pid} (${name}, session ${session}, parent ${parent} ${look(parent)?.name ?? ''})`;

function kill(pid, signal, what, owner) {
  try {
    process.kill(pid, signal);
    count(what);
    noted(owner, `${what} ${pid}`);
  } catch {
    // Gone by itself in the meantime.
  }
}

async function killOwner(owner) {
  count('owner killed');
  noted(owner, 'owner killed');
  owner.child.kill('SIGKILL');
  await new Promise((resolve) => (owner.gone ? resolve() : owner.child.once('exit', resolve)));
  const deadline = performance.now() + GONE_WITHIN;
  let left;
  do {
    left = marked(envsDir).filter((process) => process.owner === owner.id);
    if (left.length === 0) return;
    await pause(50);
  } while (performance.now() < deadline);
  violated(`${owner.id} is dead, and its daemons are not: ${left.map(told).join(', ')}\n  ${owner.history.join('\n  ')}`);
}

/** Two leaders of one plugin at a time would be two owners, or a restart beside the old tree. */
function checkLeaders() {
  const leaders = marked(envsDir).filter(({ pid, session, name }) => pid === session && name.startsWith('python'));
  for (const plugin of NAMES) {
    const now = leaders.filter((leader) => leader.plugin === plugin && leaderOfKeeper(leader));
    if (now.length > 1) violated(`${plugin} has ${now.length} leaders: ${now.map(({ pid, owner }) => `${pid} of ${owner}`).join(', ')}`);
  }
}

/** The child that flees makes a session of its own as well. A leader's parent is its keeper. */
function leaderOfKeeper({ parent }) {
  return look(parent)?.name === 'ally-keeper';
}

function pidFileOf(plugin) {
  try {
    return Number(readFileSync(`${envsDir}/${plugin}/daemon.pid`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Between close-on-exec, by which we know of it, and its new environment, and again while it ends, a process has none. */
const WITHOUT_ENVIRONMENT = 2_000;

async function checkPidFiles() {
  for (const plugin of NAMES) {
    const began = performance.now();
    let found = named(plugin);
    while (found && !found.daemon) {
      const waited = performance.now() - began;
      longest = Math.max(longest, waited);
      if (found.environment || waited > WITHOUT_ENVIRONMENT) {
        violated(`the pid file of ${plugin} names what is none of its daemons: ${JSON.stringify(found)}`);
        break;
      }
      count(found.exiting ? 'looks at one that ends' : 'looks at one in exec');
      await pause(5);
      found = named(plugin);
    }
  }
}

/** The living process that a pid file names; `daemon` if it is one of the plugin's. */
function named(plugin) {
  const pid = pidFileOf(plugin);
  const process = pid && look(pid);
  if (!process) return undefined;
  const environment = environmentOf(pid);
  const found = {
    ...process,
    parentName: look(process.parent)?.name,
    environment: environment.size,
    daemon: belongs(environment, envsDir) && environment.get('CHAOS_NAME') === plugin,
  };
  // One look at one process, and the file still says so?
  return pidFileOf(plugin) === pid && look(pid)?.start === process.start ? found : undefined;
}

async function step(pending) {
  const list = [...owners.values()];
  if (list.length < Number(values.owners)) await spawnOwner();
  const owner = pick(list.length > 0 ? list : [...owners.values()]);
  const name = pick(NAMES);
  const dice = random();
  const later = (promise) => pending.add(promise.finally(() => pending.delete(promise)));
  const daemons = () => marked(envsDir).filter(leaderOfKeeper);
  const spared = performance.now() - owner.keeperKilled <= SPARED_AFTER_KEEPER;
  const ownerOf = (daemon) => owners.get(daemon.owner);
  if (dice < 0.4) {
    const character = pick(CHARACTERS);
    noted(owner, `start of ${name}, ${character}`);
    later(ask(owner, 'start', { name, character }));
  } else if (dice < 0.6) later(ask(owner, 'stop', { name }));
  else if (dice < 0.7) later(ask(owner, 'restart', { name }));
  else if (dice < 0.82)
    daemons()
      .slice(0, 1)
      .forEach((daemon) => kill(daemon.pid, 'SIGKILL', 'daemon killed', ownerOf(daemon)));
  else if (dice < 0.88)
    daemons()
      .slice(-1)
      .forEach((daemon) => kill(daemon.pid, 'SIGSTOP', 'daemon stopped', ownerOf(daemon)));
  else if (dice < 0.91 && !spared) helpers(owner.child.pid).guardians.forEach(({ pid }) => kill(pid, 'SIGKILL', 'guardian killed', owner));
  else if (dice >= 0.91 && dice < 0.94) {
    const [keeper] = helpers(owner.child.pid).keepers;
    if (keeper) {
      owner.keeperKilled = performance.now();
      kill(keeper.pid, 'SIGKILL', 'keeper killed', owner);
    }
  } else if (dice >= 0.94 && !spared) later(killOwner(owner));
  await checkPidFiles();
  checkLeaders();
  await pause(random() * 60);
}

const decoys = await Promise.all(
  Array.from({ length: 4 }, async (_, index) => {
    const child = fork(new URL('decoy.mjs', import.meta.url), ['daemon.py', 'willing'], {
      detached: index % 2 === 0,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    await new Promise((resolve) => child.once('message', resolve));
    child.on('message', ({ signal }) => violated(`a bystander got ${signal}`));
    child.on('exit', (code, signal) => child.connected && violated(`a bystander was ended (${signal ?? code})`));
    return child;
  }),
);

const pending = new Set();
const end = performance.now() + seconds * 1_000;
while (performance.now() < end) await step(pending);
await Promise.all(pending);

// The survivors stop everything, and are as they would be after one start and stop.
for (const owner of owners.values()) await ask(owner, 'stopAll');
const deadline = performance.now() + 5_000;
let left;
do {
  const pids = new Set([...owners.values()].map(({ child }) => child.pid));
  left = [...marked(envsDir), ...everyone().filter(({ parent }) => pids.has(parent))];
  await pause(50);
} while (left.length > 0 && performance.now() < deadline);
for (const process of left) violated(`left behind: ${told(process)} of ${process.owner ?? ''}`);
for (const owner of owners.values()) {
  const { value } = await ask(owner, 'usage');
  // Node's own, the supervisor's epoll, its waker and inotify; and what a first start loads for good.
  if (value.descriptors > 40) violated(`${owner.id} has ${value.descriptors} descriptors open after all was stopped`);
  if (value.threads > 14) violated(`${owner.id} has ${value.threads} threads after all was stopped`);
}
const records = readdirSync(envsDir, { recursive: true }).filter((file) => /daemon\.(pid|id)$|\.new$/.test(file));
const stale = records.filter((file) => file.endsWith('.pid') && look(Number(readFileSync(`${envsDir}/${file}`, 'utf8'))));
for (const file of stale) violated(`${file} names a process that lives`);

for (const decoy of decoys) decoy.disconnect();
for (const { child } of owners.values()) child.disconnect();
rmSync(envsDir, { recursive: true, force: true });
const operations = Object.values(counts).reduce((sum, n) => sum + n, 0);
console.log(`seed ${values.seed}, ${seconds} s, ${born} owners, ${operations} operations and outcomes:`, counts);
console.log(`what a pid file named was without an environment for up to ${longest.toFixed(0)} ms`);
console.log(violations.length === 0 ? 'no invariant was violated' : `${violations.length} violations`);
process.exitCode = violations.length === 0 ? 0 : 1;
