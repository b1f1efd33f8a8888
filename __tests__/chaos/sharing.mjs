// Sessions share daemons while sessions, the host, its helpers and the daemons are killed and suspended at random, and the
// command line is used beside them. The invariants are checked from outside, in /proc, and between the sessions.
//
//   node __tests__/chaos/sharing.mjs [--seed 1] [--seconds 10] [--sessions 4]

import { connect } from 'node:net';
import { execFile } from 'node:child_process';
import { parseArgs } from 'node:util';
import { commandLine, everyProcess, living } from '../helpers/proc.js';
import { sleep, until } from '../helpers/until.js';
import { World } from '../helpers/world.js';
import { Chaos, described } from './chaos.mjs';
import { helpers, trees } from './observe.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '10' },
    sessions: { type: 'string', default: '4' },
  },
});
const seconds = Number(values.seconds);
/** What all sessions ask for under a name, so that their configurations are equal. */
const PLUGINS = {
  ash: { behaviour: 'obeys', sockets: 'own' },
  birch: { behaviour: 'ignores-sigterm', sockets: 'held' },
  cedar: { behaviour: 'has-children', sockets: 'own', linger: 300 },
  elm: { behaviour: 'crashes', sockets: 'own' },
  fir: { behaviour: 'floods-output', sockets: 'on-demand' },
};
const NAMES = Object.keys(PLUGINS);
/** A grace period of 0.3 s, the promised 2 s, and 2 s for a busy machine. */
const GONE_WITHIN = 300 + 2_000 + 2_000;
/** Restarts, a new host and a linger time are over. */
const AGREE_WITHIN = 12_000;
/** From one comparison of the sessions to the next. */
const BETWEEN_LOOKS = 8_000;
/** A host that ends has its name until it is reaped, and the program that makes a host has it for a moment. */
const TWO_HOSTS_WITHIN = 3_000;
/** A sweep needs guardian and host. If one of them is killed together with a keeper, the tree's end is not promised. */
const SPARED_AFTER_KEEPER = 3_000;

const CLI = new URL('../../cli/main.js', import.meta.url).pathname;
const world = new World({ prefix: 'chaos-' });
const { envsDir } = world;
const chaos = new Chaos({ seed: values.seed, dir: world.dir });
const { owners: sessions } = chaos;
/** What happens to the host, as an owner of helpers. */
const host = { suspended: false, keeperKilled: 0, killed: 0, history: [] };
let severalSince;

const hosts = () => everyProcess().filter(({ pid, name }) => name === 'ally-host' && commandLine(pid).includes(envsDir));
/** The keeper makes the POSIX session. The parent of a leader is its keeper. */
const isLeader = ({ ppid, session }) => ppid === session && living(ppid)?.name === 'ally-keeper';
const leaders = () => trees(envsDir).filter((process) => isLeader(process) && process.name.startsWith('python'));

/** `ally-daemons`. It must end, and say why it fails. */
async function cli(...args) {
  chaos.count(`ally-daemons ${args[0]}${args[1] === '--all' ? ' --all' : ''}`);
  const { code, stdout, stderr } = await new Promise((resolve) => {
    execFile(process.execPath, [CLI, ...args, '--envs-dir', envsDir], { timeout: 30_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? (error.code ?? error.signal) : 0, stdout, stderr }),
    );
  });
  chaos.count(`ally-daemons: exit code ${code}`);
  if (![0, 1].includes(code) || (code === 1 && !stderr.trim()))
    chaos.violated(`ally-daemons ${args.join(' ')} ended with ${code}: ${stdout}${stderr}`);
  return stdout;
}

async function killSession(session) {
  chaos.count('session killed');
  chaos.noted(host, `${session.id} killed`);
  session.child.kill('SIGKILL');
  await new Promise((resolve) => (session.gone ? resolve() : session.child.once('exit', resolve)));
}

/** What it ran must end; who has the plugins gets others by another host. */
async function killHost({ pid }) {
  const had = trees(envsDir);
  host.killed = performance.now();
  chaos.kill(pid, 'SIGKILL', 'host killed', host);
  const left = () => had.filter((process) => living(process.pid)?.start === process.start);
  await until(() => left().length === 0, GONE_WITHIN).catch(() =>
    chaos.violated(`the host is dead, and its daemons are not: ${left().map(described).join(', ')}\n  ${host.history.join('\n  ')}`),
  );
}

function checkHosts() {
  const found = hosts();
  if (found.length < 2) severalSince = undefined;
  else severalSince ??= performance.now();
  if (severalSince !== undefined && performance.now() - severalSince > TWO_HOSTS_WITHIN) {
    chaos.violated(`${found.length} hosts: ${found.map(described).join(', ')}`);
    severalSince = undefined;
  }
}

/** The host that was there when a leader was first seen, by the leader's identity. A guardian may be killed, and its keepers go on. */
const hostOf = new Map();

/** Two leaders of a plugin mean two hosts, or a restart beside the old tree. During an upgrade there are two, of one host. */
function checkLeaders() {
  const [now] = hosts();
  const found = leaders();
  for (const { pid, start } of found) if (!hostOf.has(`${pid} ${start}`)) hostOf.set(`${pid} ${start}`, now?.pid);
  for (const plugin of NAMES) {
    const seen = found.filter((leader) => leader.plugin === plugin);
    const live = seen.length > 1 ? seen.filter(({ pid, start }) => living(pid)?.start === start) : seen;
    // Of one that was first seen between two hosts nothing is known.
    const owners = new Set(live.map(({ pid, start }) => hostOf.get(`${pid} ${start}`)).filter(Boolean));
    if (live.length > 2 || owners.size > 1) chaos.violated(`${plugin} has ${live.length} leaders: ${live.map(described).join(', ')}`);
  }
}

/** What the sessions see of each plugin, and what runs. A text that says where they differ. */
async function difference() {
  const before = leaders();
  const seen = await Promise.all(
    [...sessions.values()].map(async (session) => ({ id: session.id, list: (await chaos.ask(session, 'see')).value ?? [] })),
  );
  const after = leaders();
  for (const name of NAMES) {
    const all = seen.flatMap(({ id, list }) => list.filter((plugin) => plugin.name === name).map((plugin) => ({ id, ...plugin })));
    // Of a plugin that the session has. After a failed start it has none.
    const have = all.filter(({ sessions: count }) => count !== undefined);
    const pids = [before, after].map((running) => `${running.filter(({ plugin }) => plugin === name).map(({ pid }) => pid)}`);
    const text = () =>
      `${name}: the sessions see ${JSON.stringify(all)}, and the leaders are ${pids.map((list) => list || 'none').join(', then ')}`;
    if (all.some(({ state }) => state === 'starting' || state === 'stopping')) return text();
    if (all.some((plugin) => !have.includes(plugin) && plugin.pid)) return text();
    // One that is armed or has failed has no pid.
    if (new Set(have.map(({ state, pid }) => `${state} ${pid}`)).size > 1) return text();
    if (new Set(have.map(({ sessions: count }) => count)).size > 1) return text();
    if (have.length > 0 && have[0].sessions !== have.length) return text();
    // One that crashes again and again may do so while the sessions answer.
    if (!pids.includes(`${have.length > 0 && have[0].pid ? [have[0].pid] : []}`)) return text();
  }
  return undefined;
}

/** Nothing is done, until all agree. */
async function compare() {
  await chaos.settled();
  const end = performance.now() + AGREE_WITHIN;
  let differs = await difference();
  while (differs && performance.now() < end) {
    await sleep(100);
    differs = await difference();
  }
  chaos.count('comparison of the sessions');
  if (differs) chaos.violated(`the sessions differ. ${differs}\n  ${host.history.join('\n  ')}`);
}

async function step() {
  const list = [...sessions.values()];
  if (list.length < Number(values.sessions)) await chaos.spawnOwner();
  const session = chaos.pick(list.length > 0 ? list : [...sessions.values()]);
  const name = chaos.pick(NAMES);
  const draw = chaos.random();
  const [process] = hosts();
  const now = performance.now();
  const spared = now - host.keeperKilled <= SPARED_AFTER_KEEPER || now - host.killed <= SPARED_AFTER_KEEPER;
  const call = (verb, order) => {
    chaos.noted(host, `${verb} of ${name} by ${session.id}`);
    chaos.later(chaos.ask(session, verb, { name, ...order }));
  };
  if (draw < 0.4) call('share', PLUGINS[name]);
  else if (draw < 0.44) call('upgrade', { behaviour: PLUGINS[name].behaviour });
  else if (draw < 0.47) call('follow');
  else if (draw < 0.57) call('stop');
  else if (draw < 0.6) call('everywhere');
  else if (draw < 0.66) call('restart');
  else if (draw < 0.7) {
    chaos.count('connection');
    const client = connect(`${envsDir}/${name}.sock`);
    client.on('error', () => {}).on('connect', () => setTimeout(() => client.destroy(), chaos.random() * 300));
  } else if (draw < 0.77) {
    for (const leader of leaders().slice(0, 1)) chaos.kill(leader.pid, 'SIGKILL', 'daemon killed', host);
  } else if (draw < 0.8) {
    for (const leader of leaders().slice(-1)) chaos.kill(leader.pid, 'SIGSTOP', 'daemon stopped', host);
  } else if (draw < 0.85) chaos.later(killSession(session));
  else if (draw < 0.87 && !session.suspended) chaos.later(chaos.suspend(session, living(session.child.pid), 'session suspended'));
  else if (draw < 0.89 && process && !spared) chaos.later(killHost(process));
  else if (draw < 0.91 && process && !host.suspended && !spared) {
    const { guardians, keepers } = helpers(process.pid);
    const [kind, found] = chaos.pick([
      ['host', process],
      ['guardian', guardians[0]],
      ['keeper', keepers.at(-1)],
    ]);
    if (found) chaos.later(chaos.suspend(host, found, `${kind} suspended`));
  } else if (draw < 0.925 && process && !spared) {
    for (const { pid } of helpers(process.pid).guardians) chaos.kill(pid, 'SIGKILL', 'guardian killed', host);
  } else if (draw < 0.94 && process && !spared) {
    const [keeper] = helpers(process.pid).keepers;
    if (keeper) {
      host.keeperKilled = performance.now();
      chaos.kill(keeper.pid, 'SIGKILL', 'keeper killed', host);
    }
  } else if (draw < 0.96) chaos.later(cli('ps', '--json').then((text) => JSON.parse(text)));
  else if (draw < 0.975) chaos.later(cli('logs', name, '-n', '5'));
  else if (draw < 0.985) chaos.later(cli('restart', name));
  else if (draw < 0.997) chaos.later(cli('stop', name));
  else chaos.later(cli('stop', '--all'));
  checkHosts();
  checkLeaders();
  await sleep(chaos.random() * 60);
}

const end = performance.now() + seconds * 1_000;
let compared = performance.now();
while (performance.now() < end) {
  await step();
  if (performance.now() - compared > BETWEEN_LOOKS) {
    await compare();
    compared = performance.now();
  }
}
await compare();

// The sessions leave, some of them without a word. The host leaves within a second after the last tree.
for (const [index, session] of [...sessions.values()].entries()) {
  if (index % 2 === 0) await killSession(session);
  else await chaos.ask(session, 'stopAll');
}
const left = () => [...trees(envsDir), ...hosts()];
await until(() => left().length === 0, GONE_WITHIN + 1_000).catch(() => {
  for (const process of left()) chaos.violated(`left behind: ${described(process)}`);
});
for (const { child } of sessions.values()) child.disconnect();
for (const { pid, command } of await world.killSurvivors()) chaos.violated(`left behind: ${pid} ${command}`);
world.remove();
chaos.report({ seed: values.seed, seconds });
