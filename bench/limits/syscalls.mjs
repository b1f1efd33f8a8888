// Counts system calls with strace. The counts are the same on slow and fast machines.
//
// A limit is one and a half times the count on Node 20, Linux 6.18, x64 (in the comments). A change that needs more gives its
// reason here.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const STARTS = 20;
/** Other daemons that run meanwhile. A start or stop must not cost more because of them. */
const OTHERS = 30;
const CHECKS = 40;
const MIB = 8;

/** A busy machine wakes a thread more often for the same work, so the best of a few traces counts. */
const TRACES = 3;

export function syscalls(trial, check, skip) {
  if (spawnSync('strace', ['-f', '-o', '/dev/null', 'true']).status !== 0) return skip('system calls: strace is not here, or not allowed');
  const best = {};
  for (let attempt = 1; attempt <= TRACES; attempt++) {
    const { trace, problem } = traced(trial, `trace${attempt}`);
    if (problem) return check('the traced owner ends well', false, problem);
    if (attempt === 1) processes(trace, check);
    for (const [what, value] of Object.entries(counts(trace))) best[what] = Math.min(best[what] ?? Infinity, value);
    if (Object.entries(LIMITS).every(([what, limit]) => best[what] <= limit)) break;
  }
  for (const [what, limit] of Object.entries(LIMITS))
    check(what, best[what] <= limit, `${Number(best[what].toFixed(2))}, at most ${limit}`);
  return undefined;
}

/** The trace of an owner under strace. */
function traced(trial, name) {
  const folder = join(trial.dir, name);
  mkdirSync(folder);
  const order = JSON.stringify({
    dir: join(trial.dir, `${name}d`),
    daemon: trial.daemon,
    starts: STARTS,
    others: OTHERS,
    checks: CHECKS,
    mib: MIB,
  });
  const owner = fileURLToPath(new URL('traced.mjs', import.meta.url));
  const { status, stderr } = spawnSync('strace', ['-ff', '-ttt', '-s', '32', '-o', join(folder, 't'), process.execPath, owner, order], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return status === 0 ? { trace: read(folder) } : { problem: stderr.trim().split('\n').at(-1) };
}

/** The owner must never copy its heap, so it forks the guardian only, with CLONE_VFORK. */
function processes({ owner, supervisor, marks }, check) {
  const clones = owner.flatMap(({ calls }) => calls.filter(({ name }) => /^(clone3?|v?fork)$/.test(name)));
  const threads = clones.filter(({ text }) => text.includes('CLONE_THREAD'));
  const forks = clones.filter(({ text }) => !text.includes('CLONE_THREAD'));
  check('the owner forks one process: the guardian', forks.length === 1, forks.length);
  check(
    '... without a copy of its memory (CLONE_VFORK)',
    forks.every(({ text, name }) => name === 'vfork' || text.includes('CLONE_VFORK')),
    forks.map(({ name }) => name).join(),
  );
  check(
    'no start after the first creates a thread in the owner',
    threads.every(({ at }) => at < marks.starts),
    'yes',
  );
  check('one supervisor thread in the owner', supervisor.length === 1, supervisor.length);
}

const LIMITS = {
  // Counted: 28 on the JavaScript thread, 20 of them read the owner's limits, its niceness and its umask, which a daemon gets as under
  // child_process; a further start in the same turn reads the umask and the niceness, 12 in all. 145 on the supervisor's, without
  // tries that found no listener. 10 of these are the try that finds it: readiness reads the leader's descriptors and asks the kernel
  // about the leader's socket. A connection would be 5 calls, but would harm a daemon that serves one connection or parses what it
  // reads. Three more are the token of the attempt (getrandom(2)) and the watch of daemon.lock (inotify_add_watch(2), statx(2)), two
  // the size of the pipes.
  // Sixteen are the sample at readiness: two files of the keeper, two of the leader, and the leader's descriptors.
  'system calls per start, JavaScript thread': 45,
  'system calls per start, supervisor': 175,
  // Counted: 11. The guardian forks a keeper, and passes its descriptors.
  'system calls per start, guardian': 20,
  // Counted: 100 until the keeper has reported Spawned. 68 of them reset signal dispositions in the child, 5 make the group.
  'system calls per start, keeper and child until exec': 190,
  // Counted: 10 on the JavaScript thread; 39 on the supervisor's. Two or three of these read the keeper's acknowledgement, two look
  // whether the record is another owner's, and the last read of each pipe ends the output of the daemon.
  'system calls per stop, JavaScript thread': 16,
  'system calls per stop, supervisor': 42,
  // The guardian reaps a keeper. A scan of every daemon's processes would be hundreds of calls.
  [`system calls per stop, guardian, with ${OTHERS} other daemons`]: 25,
  // Counted: 9 to 10 (stat, recv, close of the last connection, socket, connect, shutdown, getsockopt, a timer, a wake-up).
  'system calls per health check, supervisor': 12,
  // Without a 'health' listener the JavaScript thread is not woken.
  'system calls per health check, JavaScript thread': 1,
  // A pipe holds 64 KiB, so 16 is the minimum. A writer that waits for a core leaves the pipe less full.
  'reads per MiB of output': 40,
};

/** The counts, by the names of the limits. */
function counts({ js, supervisor, guardian, spawnCalls, marks }) {
  const within = (tasks, from, to) => tasks.flatMap(({ calls }) => calls.filter(({ at }) => at > marks[from] && at < marks[to]));
  const starting = within(supervisor, 'starts', 'stops');
  // A further try of readiness, before the leader's socket listens, is four calls: stat, a request, an answer, a wait. The number of
  // tries depends on the daemon's time to listen(2).
  const tries = starting.filter(({ name, text }) => name === 'sendto' && /nlmsg_type=(SOCK_DIAG_BY_FAMILY|0x14)/.test(text)).length;
  const failedTries = (tries - STARTS) * 4;
  return {
    'system calls per start, JavaScript thread': within(js, 'starts', 'stops').length / STARTS,
    'system calls per start, supervisor': (starting.length - failedTries) / STARTS,
    'system calls per start, guardian': within(guardian, 'starts', 'stops').length / STARTS,
    'system calls per start, keeper and child until exec': spawnCalls.reduce((sum, calls) => sum + calls, 0) / spawnCalls.length,
    'system calls per stop, JavaScript thread': within(js, 'stops', 'stopped').length / STARTS,
    'system calls per stop, supervisor': within(supervisor, 'stops', 'stopped').length / STARTS,
    [`system calls per stop, guardian, with ${OTHERS} other daemons`]: within(guardian, 'stops', 'settled').length / STARTS,
    'system calls per health check, supervisor': within(supervisor, 'checks', 'checked').length / CHECKS,
    'system calls per health check, JavaScript thread': within(js, 'checks', 'checked').length / CHECKS,
    'reads per MiB of output': within(supervisor, 'flood', 'flooded').filter(({ name }) => name === 'read').length / MIB,
  };
}

/** The trace by thread. Every thread has a file of its own. */
function read(folder) {
  const marks = {};
  const tasks = readdirSync(folder).map((file) => {
    const calls = [];
    for (const text of readFileSync(join(folder, file), 'latin1').split('\n')) {
      const [, at, name] = /^([\d.]+) (\w+)\(/.exec(text) ?? [];
      if (!name) continue; // a signal, an exit, or the rest of an interrupted call
      calls.push({ at: Number(at), name, text });
      const mark = /"\/ally-limits\/(\w+)"/.exec(text);
      if (mark) marks[mark[1]] = Number(at);
    }
    return { calls };
  });
  const has = (pattern) => (task) => task.calls.some(({ text }) => pattern.test(text));
  const named = (name) => new RegExp(`PR_SET_NAME, "${name}`);
  const js = tasks.filter(has(/"\/ally-limits\//));
  const supervisor = tasks.filter(has(named('ally-bpm')));
  // The other tasks are the threads of the owner.
  const keepers = tasks.filter(has(named('ally-keeper')));
  const guardian = tasks.filter(has(/execve\(".*ally-guardian"/));
  const leaders = tasks.filter(has(/execve\(".*bench-daemon"/));
  const others = new Set([...keepers, ...guardian, ...leaders]);
  const until = (calls, pattern) => calls.slice(0, calls.findIndex(({ text }) => pattern.test(text)) + 1).length;
  // From the keeper's first call to its report, and from the child's first call to execve.
  const spawnCalls = keepers.map(({ calls }, index) => until(calls, /^\S+ sendto\(/) + until(leaders[index]?.calls ?? [], /execve\(/));
  return { marks, js, supervisor, guardian, spawnCalls, owner: tasks.filter((task) => !others.has(task)) };
}
