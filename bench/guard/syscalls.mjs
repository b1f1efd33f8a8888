// What the kernel is asked for, counted by strace: the same on a slow machine and on a fast one.
//
// Limits: what was counted on Node 20, Linux 6.18, x64 when this was written (in the comments), plus half
// as much again. A change that needs more has to say why, here.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const STARTS = 20;
/** Daemons that run all the while: what happens to one must not cost more because of them. */
const OTHERS = 30;
const CHECKS = 40;
const MIB = 8;

export function syscalls(world, check, skip) {
  const folder = join(world.dir, 'trace');
  mkdirSync(folder);
  if (spawnSync('strace', ['-f', '-o', '/dev/null', 'true']).status !== 0) return skip('system calls: strace is not here, or not allowed');
  const order = JSON.stringify({ dir: join(world.dir, 'traced'), daemon: world.daemon, starts: STARTS, others: OTHERS, checks: CHECKS, mib: MIB });
  const owner = fileURLToPath(new URL('traced.mjs', import.meta.url));
  const { status, stderr } = spawnSync('strace', ['-ff', '-ttt', '-s', '32', '-o', join(folder, 't'), process.execPath, owner, order], { encoding: 'utf8', timeout: 60_000 });
  check('the traced owner ends well', status === 0, status === 0 ? 'yes' : stderr.trim().split('\n').at(-1));
  if (status !== 0) return undefined;

  const trace = read(folder);
  const { owner: own, js, supervisor } = trace;
  const within = (tasks, from, to) => tasks.flatMap(({ calls }) => calls.filter(({ at }) => at > trace.marks[from] && at < trace.marks[to]));
  const atMost = (what, value, limit) => check(what, value <= limit, `${Number(value.toFixed(2))}, at most ${limit}`);

  // The owner must never copy its heap, so it forks nothing but the guardian, and that without copying.
  const made = own.flatMap(({ calls }) => calls.filter(({ name }) => /^(clone3?|v?fork)$/.test(name)));
  const threads = made.filter(({ text }) => text.includes('CLONE_THREAD'));
  const processes = made.filter(({ text }) => !text.includes('CLONE_THREAD'));
  check('the owner makes one process: the guardian', processes.length === 1, processes.length);
  check('... without a copy of its memory (CLONE_VFORK)', processes.every(({ text, name }) => name === 'vfork' || text.includes('CLONE_VFORK')), processes.map(({ name }) => name).join());
  check('no start after the first makes a thread in the owner', threads.every(({ at }) => at < trace.marks.starts), 'yes');
  check('one thread of ours in the owner', supervisor.length === 1, supervisor.length);

  // A look at a socket that isn't ready yet is four calls, and how many it takes is the daemon's affair.
  const starting = within(supervisor, 'starts', 'stops');
  const inVain = starting.filter(({ name, text }) => name === 'connect' && / = -1 /.test(text)).length * 4;
  // Counted: 7 on the JavaScript thread; 80 to 90 on the supervisor's, besides looks in vain.
  atMost('system calls per start, JavaScript thread', within(js, 'starts', 'stops').length / STARTS, 12);
  atMost('system calls per start, supervisor', (starting.length - inVain) / STARTS, 130);
  // Counted: 11; a fork of a keeper and the hand-over of its descriptors.
  atMost('system calls per start, guardian', within(trace.guardian, 'starts', 'stops').length / STARTS, 20);
  // Counted: 95 until the keeper has told of the birth, of which 68 reset signal dispositions, in the child.
  atMost('system calls per start, keeper and child until exec', trace.births.reduce((sum, calls) => sum + calls, 0) / trace.births.length, 190);

  // Counted: 10 on the JavaScript thread, 23 on the supervisor's.
  atMost('system calls per stop, JavaScript thread', within(js, 'stops', 'stopped').length / STARTS, 16);
  atMost('system calls per stop, supervisor', within(supervisor, 'stops', 'stopped').length / STARTS, 36);

  // A reaping. Anything that looks at every daemon's process would be hundreds.
  atMost(`system calls per stop, guardian, with ${OTHERS} other daemons`, within(trace.guardian, 'stops', 'settled').length / STARTS, 25);

  // Counted: 7 to 8 (socket, connect, getsockopt, close, a timer, a waking).
  atMost('system calls per health check, supervisor', within(supervisor, 'checks', 'checked').length / CHECKS, 12);
  // Nobody listens to 'health', so nobody is to be woken.
  atMost('system calls per health check, JavaScript thread', within(js, 'checks', 'checked').length / CHECKS, 1);

  // A pipe holds 64 KiB, so 16 is the least; a writer that is kept waiting for a core leaves it less full.
  const reads = within(supervisor, 'flood', 'flooded').filter(({ name }) => name === 'read').length;
  atMost('reads per MiB of output', reads / MIB, 40);
  return undefined;
}

/** The trace by who made the calls; every thread has a file of its own. */
function read(folder) {
  const marks = {};
  const tasks = readdirSync(folder).map((file) => {
    const calls = [];
    for (const text of readFileSync(join(folder, file), 'latin1').split('\n')) {
      const [, at, name] = /^([\d.]+) (\w+)\(/.exec(text) ?? [];
      if (!name) continue; // a signal, an exit, or the rest of a call that was interrupted
      calls.push({ at: Number(at), name, text });
      const mark = /"\/ally-guard\/(\w+)"/.exec(text);
      if (mark) marks[mark[1]] = Number(at);
    }
    return { calls };
  });
  const has = (pattern) => (task) => task.calls.some(({ text }) => pattern.test(text));
  const named = (name) => new RegExp(`PR_SET_NAME, "${name}`);
  const js = tasks.filter(has(/"\/ally-guard\//));
  const supervisor = tasks.filter(has(named('ally-bpm')));
  // The threads of the owner are those that neither run a program nor are a keeper or its child.
  const keepers = tasks.filter(has(named('ally-keeper')));
  const guardian = tasks.filter(has(/execve\(".*ally-guardian"/));
  const leaders = tasks.filter(has(/execve\(".*bench-daemon"/));
  const others = new Set([...keepers, ...guardian, ...leaders]);
  const until = (calls, pattern) => calls.slice(0, calls.findIndex(({ text }) => pattern.test(text)) + 1).length;
  // From the keeper's first call to its report, and from its child's to the program.
  const births = keepers.map(({ calls }, index) => until(calls, /^\S+ sendto\(/) + until(leaders[index]?.calls ?? [], /execve\(/));
  return { marks, js, supervisor, guardian, births, owner: tasks.filter((task) => !others.has(task)) };
}
