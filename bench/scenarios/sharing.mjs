// Shared daemons: the second session's start, what sharing adds to a first one, the host at rest, and many sessions at once.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { memory, switches, threads } from '../../__tests__/helpers/proc.js';
import { PYTHON } from '../../__tests__/helpers/python.js';
import { sleep, until } from '../../__tests__/helpers/until.js';
import { now } from '../lib/clock.mjs';
import { assert, root } from '../lib/trial.mjs';

const SHARED = { shared: true };

async function timed(call) {
  const begin = now();
  await call();
  return now() - begin;
}

/** The pid of the host, of which the lock file has a note. */
function hostOf({ envsDir }) {
  const note = readFileSync(join(envsDir, `.ally-host-${process.geteuid()}`, 'host.lock'), 'utf8');
  return Number(/^host (\d+) /.exec(note)[1]);
}

export const attach = {
  name: 'attach',
  title: 'Starts of shared daemons, with a host that is there',
  rounds: { quick: 1, full: 3 },
  contestants: { attach: 'ally, shared: a further session', shared: 'ally, shared: the first session', exclusive: 'ally, exclusive' },
  metrics: { start: { label: 'call → resolved', unit: 'ms' } },

  async run(trial, contestant) {
    const first = trial.manager();
    // Guardian and host are there.
    await first.startProcess(trial.config('other'));
    await first.startProcess(trial.config('running', SHARED));
    const start = [];
    for (let index = 0; index < (trial.quick ? 10 : 30); index++) {
      // A manager is a session. Only attaching makes a connection for each.
      const manager = contestant === 'attach' ? trial.manager() : first;
      const [name, changes] = { attach: ['running', SHARED], shared: [`s${index}`, SHARED], exclusive: [`e${index}`, {}] }[contestant];
      const config = trial.config(name, changes);
      start.push(await timed(() => manager.startProcess(config)));
      if (contestant === 'attach') assert(manager.getPid(name) === first.getPid(name), 'both have the same daemon');
      await manager.stopProcess(name);
    }
    await first.stopAllProcesses();
    return { start };
  },
};

const DAEMONS = 10;
const SESSIONS = 10;

export const host = {
  name: 'host',
  title: `The host of ${DAEMONS} daemons with ${SESSIONS} sessions`,
  rounds: { quick: 1, full: 2 },
  contestants: { ally: 'ally' },
  metrics: {
    memory: { label: 'Pss', unit: 'MB' },
    wakeUps: { label: 'wake-ups while nothing happens', unit: 'per s' },
  },

  async run(trial) {
    const managers = Array.from({ length: SESSIONS }, () => trial.manager());
    const configs = Array.from({ length: DAEMONS }, (_, index) => trial.config(`d${index}`, SHARED));
    for (const config of configs) await Promise.all(managers.map((manager) => manager.startProcess(config)));
    const pid = hostOf(trial);
    await sleep(3_000);
    const wakeUps = () => threads(pid).reduce((sum, tid) => sum + switches(pid, tid), 0);
    const before = wakeUps();
    const seconds = trial.quick ? 3 : 10;
    await sleep(seconds * 1_000);
    const result = { memory: [(memory(pid, 'Pss') * 1.024) / 1_000], wakeUps: [(wakeUps() - before) / seconds] };
    await Promise.all(managers.map((manager) => manager.stopAllProcesses()));
    return result;
  },
};

const CROWD = 24;
/** As plugins do, it is busy for more than 100 ms before it listens. */
const PLUGIN = `
import asyncio, email, http.server, json, os, signal, socket, sqlite3, ssl, time, unittest, urllib.request, xml.dom.minidom
while time.process_time() < 0.12:
    sum(range(1000))
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ["SOCKET_PATH"])
server.listen()
signal.sigwait([signal.SIGTERM])
`;

export const crowd = {
  name: 'crowd',
  title: `${CROWD} programs start one shared Python daemon at the same time`,
  rounds: { quick: 1, full: 3 },
  contestants: { all: `${CROWD} at once, without a host`, one: 'one, without a host' },
  metrics: { resolved: { label: 'first call → all resolved', unit: 'ms' } },

  async run(trial, contestant) {
    const config = trial.config('plugin', { ...SHARED, command: PYTHON, args: ['-c', PLUGIN] });
    const order = JSON.stringify({ envsDir: trial.envsDir, config });
    const programs = Array.from({ length: contestant === 'all' ? CROWD : 1 }, () => fork(join(root, 'bench', 'session.mjs'), [order]));
    await Promise.all(programs.map((program) => once(program, 'message')));
    // What a program does after its first line is over.
    await sleep(500);
    const answers = programs.map((program) => once(program, 'message'));
    const begin = now();
    for (const program of programs) program.send('start');
    const resolved = (await Promise.all(answers)).map(([answer]) => answer);
    assert(new Set(resolved.map(({ pid }) => pid)).size === 1, 'there is one daemon');
    const pid = hostOf(trial);
    await Promise.all(
      programs.map((program) => {
        program.kill('SIGKILL');
        return once(program, 'exit');
      }),
    );
    await until(() => threads(pid).length === 0, 5_000, 'the host has left');
    return { resolved: [Math.max(...resolved.map(({ at }) => at)) - begin] };
  },
};
