'use strict';

// What the kernel says about processes. A process is known by its pid and the time it started, so that a pid that the
// kernel gave away again is not taken for the old one. A zombie is gone.

const fs = require('node:fs');
const { execFileSync } = require('node:child_process');

const onLinux = process.platform === 'linux';

function fromProc(pid) {
  let text;
  try {
    text = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { pid: Number(pid), state: fields[0], ppid: Number(fields[1]), threads: Number(fields[17]), start: fields[19] };
}

function fromPs(selection) {
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

function stat(pid) {
  return onLinux ? fromProc(pid) : fromPs(['-p', String(pid)])[0];
}

function everyPid() {
  return fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
}

function everyProcess() {
  return onLinux ? everyPid().map(fromProc).filter(Boolean) : fromPs(['-ax']);
}

/** One whose first thread has ended looks like a zombie while the others go on. */
const breathes = (found) => found !== undefined && (!['Z', 'X', 'x'].includes(found.state) || found.threads > 1);

/** The process that has this pid now. */
function identify(pid) {
  if (!Number.isInteger(pid)) throw new TypeError(`not a pid: ${pid}`);
  return { pid, start: stat(pid)?.start };
}

/** Takes a pid, or better what `identify` gave. */
function alive(process) {
  const { pid, start } = typeof process === 'number' ? { pid: process } : process;
  const found = stat(pid);
  return breathes(found) && (start === undefined ? typeof process === 'number' : found.start === start);
}

function children(pid) {
  return everyProcess()
    .filter((process) => process.ppid === pid && breathes(process))
    .map(({ pid, start }) => ({ pid, start }));
}

function descendants(pid) {
  const all = everyProcess().filter(breathes);
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

/** From its parent upwards, without pid 1. */
function ancestors(pid) {
  const found = [];
  for (let next = stat(pid)?.ppid; next > 1; next = stat(next)?.ppid) found.push(identify(next));
  return found;
}

/** Those with `text` in the environment that they were started with. Every daemon and owner of a test has its folder there. */
function mentioning(text) {
  if (!onLinux) return [];
  const found = [];
  for (const pid of everyPid()) {
    try {
      if (Number(pid) !== process.pid && fs.readFileSync(`/proc/${pid}/environ`).includes(text)) found.push(identify(Number(pid)));
    } catch {
      // gone, or not ours to read
    }
  }
  return found.filter(alive);
}

/** Signals that very process, if it is still there. */
function signal(target, name) {
  if (!alive(target)) return;
  try {
    process.kill(typeof target === 'number' ? target : target.pid, name);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/** For what only this system can be asked. */
const testOnLinux = (...args) => (onLinux ? test : test.skip)(...args);
testOnLinux.each = (...table) => (onLinux ? test : test.skip).each(...table);

module.exports = { alive, ancestors, children, descendants, identify, mentioning, onLinux, signal, stat, testOnLinux };
