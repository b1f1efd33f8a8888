'use strict';

// The one reader of /proc (and of ps on macOS). A process is identified by its pid and its start time, so that a reused
// pid is not taken for the old process. A zombie counts as gone.

const fs = require('node:fs');
const { execFileSync } = require('node:child_process');

const onLinux = process.platform === 'linux';
const PF_EXITING = 0x4;

/** The text of a file below /proc; undefined if the process is gone or belongs to another user. */
function read(path) {
  try {
    return fs.readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}

function list(folder) {
  try {
    return fs.readdirSync(folder);
  } catch {
    return [];
  }
}

const numbers = (folder) =>
  list(folder)
    .filter((name) => /^\d+$/.test(name))
    .map(Number);

/** /proc/PID/stat. `exiting`: the process has already given up its memory, and its environment with it. */
function statFromProc(pid) {
  const text = read(`/proc/${pid}/stat`);
  if (!text) return undefined;
  const end = text.lastIndexOf(')');
  const fields = text.slice(end + 2).split(' ');
  const [state, ppid, group, session, , , flags] = fields;
  return {
    pid: Number(pid),
    name: text.slice(text.indexOf('(') + 1, end),
    state,
    ppid: Number(ppid),
    group: Number(group),
    session: Number(session),
    exiting: (Number(flags) & PF_EXITING) !== 0,
    threads: Number(fields[17]),
    start: fields[19],
  };
}

function statsFromPs(selection) {
  let text;
  try {
    text = execFileSync('ps', ['-o', 'pid=,ppid=,state=,lstart=', ...selection], { encoding: 'utf8' });
  } catch {
    return [];
  }
  return text
    .split('\n')
    .map((line) => /^\s*(\d+)\s+(\d+)\s+(\S)\S*\s+(.*)$/.exec(line))
    .filter(Boolean)
    .map(([, pid, ppid, state, start]) => ({ pid: Number(pid), ppid: Number(ppid), state, start }));
}

/** Of zombies too. */
function stat(pid) {
  return onLinux ? statFromProc(pid) : statsFromPs(['-p', String(pid)])[0];
}

const allPids = () => numbers('/proc');

/** `stat` of every process, zombies too. */
const allStats = () => (onLinux ? allPids().map(statFromProc).filter(Boolean) : statsFromPs(['-ax']));

/** A process whose first thread has exited looks like a zombie while its other threads run. */
const lives = (found) => found !== undefined && (!['Z', 'X', 'x'].includes(found.state) || found.threads > 1);

/** `stat` of every process that is no zombie. */
const everyProcess = () => allStats().filter(lives);

/** `stat` of a process that is no zombie. */
function living(pid) {
  const found = stat(pid);
  return lives(found) ? found : undefined;
}

/** The process that has this pid now. */
function identify(pid) {
  if (!Number.isInteger(pid)) throw new TypeError(`not a pid: ${pid}`);
  return { pid, start: stat(pid)?.start };
}

/** Takes a pid, or better the result of `identify`. */
function alive(process) {
  const { pid, start } = typeof process === 'number' ? { pid: process } : process;
  const found = living(pid);
  return found !== undefined && (start === undefined ? typeof process === 'number' : found.start === start);
}

function children(pid) {
  return everyProcess()
    .filter((process) => process.ppid === pid)
    .map(({ pid, start }) => ({ pid, start }));
}

function descendants(pid) {
  const all = everyProcess();
  const found = [];
  const parents = [pid];
  while (parents.length > 0) {
    const parent = parents.pop();
    for (const process of all.filter(({ ppid }) => ppid === parent)) {
      found.push({ pid: process.pid, start: process.start });
      parents.push(process.pid);
    }
  }
  return found;
}

/** From the parent upwards, without pid 1. */
function ancestors(pid) {
  const found = [];
  for (let next = stat(pid)?.ppid; next > 1; next = stat(next)?.ppid) found.push(identify(next));
  return found;
}

/** Exited children for which `pid` has not waited yet. */
const zombies = (pid) => allStats().filter((process) => process.ppid === pid && process.state === 'Z');

/** The processes with `text` in the environment of their start. Each daemon and owner of a test has the test's folder there. */
function withEnvironment(text) {
  if (!onLinux) return [];
  return allPids()
    .filter((pid) => pid !== process.pid && read(`/proc/${pid}/environ`)?.includes(text))
    .map(identify)
    .filter(alive);
}

/** The environment at the start, as a Map. Empty for a process of another user, a gone one, and one in execve(2). */
function environment(pid) {
  const entries = (read(`/proc/${pid}/environ`) ?? '').split('\0').filter((entry) => entry.includes('='));
  return new Map(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
}

const commandLine = (pid) => (read(`/proc/${pid}/cmdline`) ?? '(gone)').replaceAll('\0', ' ');

const threads = (pid) => numbers(`/proc/${pid}/task`);

/** The name of a process, or of one of its threads, as prctl(PR_SET_NAME) set it. */
const threadName = (pid, tid = pid) => read(`/proc/${pid}/task/${tid}/comm`)?.trim();

/** The numbers of the open descriptors. Of this very process one more: that of the folder. */
const descriptors = (pid) => list(`/proc/${pid}/fd`);

function link(path) {
  try {
    return fs.readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** What a descriptor leads to, such as `pipe:[123]`. */
const target = (pid, descriptor) => link(`/proc/${pid}/fd/${descriptor}`);

/** The program that a process executes; undefined if the process is gone. */
const program = (pid) => link(`/proc/${pid}/exe`);

/** The pids that have `opened` open, as `target` names it. */
const holders = (opened) => allPids().filter((pid) => descriptors(pid).some((descriptor) => target(pid, descriptor) === opened));

/** The user of a process; undefined if it is gone. */
const uid = (pid) => fs.statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid;

/** The text after KEY: in a file of such lines. */
const field = (text, key) => new RegExp(`^${key}:\\s*(\\S+)`, 'm').exec(text ?? '')?.[1];

/** One field of /proc/PID/status as text. */
const status = (pid, key, tid = pid) => field(read(`/proc/${pid}/task/${tid}/status`), key);

/** A set of signals of /proc/PID/status (SigIgn, SigBlk, …) as a number with a bit a signal. */
const signals = (pid, key, tid) => BigInt(`0x${status(pid, key, tid)}`);

/** In KiB: a sum over all mappings, such as Pss or Anonymous. */
const memory = (pid, key) => Number(field(read(`/proc/${pid}/smaps_rollup`), key) ?? 0);

/** Resident memory in KiB, now and at its peak since `forgetPeak`. */
const resident = (pid) => Number(status(pid, 'VmRSS'));
const residentPeak = (pid) => Number(status(pid, 'VmHWM'));

function forgetPeak(pid) {
  fs.writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** CPU time in ms of a process with one thread, to the nanosecond where the kernel has it (schedstat). */
const ranFor = (pid) => Number(read(`/proc/${pid}/schedstat`)?.split(' ')[0] ?? 0) / 1e6;

/** The time in ms for which the first thread of a process was runnable and had no core. */
const waitedForCore = (pid) => Number(read(`/proc/${pid}/schedstat`)?.split(' ')[1] ?? 0) / 1e6;

/** Voluntary context switches of a thread: each stands for a wake-up. */
const switches = (pid, tid) => Number(status(pid, 'voluntary_ctxt_switches', tid) ?? 0);

/** The pids of the guardians and keepers below a process. */
const helpers = (pid = process.pid) =>
  descendants(pid)
    .map((child) => child.pid)
    .filter((child) => /^ally-(guardian|keeper)$/.test(threadName(child) ?? ''));

/** The system call in which a thread waits, as a number of this architecture. */
const systemCall = (pid, tid) => Number.parseInt(read(`/proc/${pid}/task/${tid}/syscall`), 10);

/** Whether somebody holds a lock (flock or fcntl) on the file. */
const isLocked = (file) => read('/proc/locks').includes(`:${fs.statSync(file).ino} `);

/** Whether each thread is stopped, or gone. */
function isSuspended(pid) {
  const states = onLinux ? threads(pid).map((thread) => statFromProc(`${pid}/task/${thread}`)?.state) : [stat(pid)?.state];
  return states.every((state) => state === undefined || 'TtZXx'.includes(state));
}

/**
 * Signals that very process, if it still exists. After SIGSTOP its threads have stopped: on a busy machine a thread that the signal
 * has not reached yet may go on for milliseconds.
 */
function signal(process_, name) {
  if (!alive(process_)) return;
  const pid = typeof process_ === 'number' ? process_ : process_.pid;
  try {
    process.kill(pid, name);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
  if (name !== 'SIGSTOP') return;
  const end = performance.now() + 5_000;
  while (!isSuspended(pid)) {
    if (performance.now() > end) throw new Error(`${pid} is not suspended 5 s after SIGSTOP`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  }
}

/** Signals each of them with SIGSTOP before SIGKILL, so that none can react to another one's end. */
function killTogether(processes) {
  for (const name of ['SIGSTOP', 'SIGKILL']) for (const process of processes) signal(process, name);
}

module.exports = {
  alive,
  allStats,
  ancestors,
  children,
  commandLine,
  descendants,
  descriptors,
  environment,
  everyProcess,
  forgetPeak,
  helpers,
  holders,
  identify,
  isLocked,
  killTogether,
  living,
  memory,
  onLinux,
  program,
  ranFor,
  read,
  resident,
  residentPeak,
  signal,
  signals,
  stat,
  status,
  switches,
  systemCall,
  target,
  threadName,
  threads,
  uid,
  waitedForCore,
  withEnvironment,
  zombies,
};
