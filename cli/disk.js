'use strict';
// The rows of exclusive daemons: what the plugins' files and the kernel tell. The formats are in crates/base/src/record, and
// docs/files.md describes them.

const { readFileSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const native = require('../native.js');

/** The unit of start times in /proc (USER_HZ), which is the same on all machines of the supported kinds. */
const TICKS_PER_SECOND = 100;

/**
 * A row per name: `{ name, state, pid, uptime, cpuPercent, memory, processes, version, keeper, owner, restarts, lastError, orphans,
 * doubtful, unidentified, logFile, staleSocket, problem }`. What can't be known from outside is null. `owner`: `{ kind, pid, command, place, keeper }` or null, kind:
 * process, elsewhere or dead.
 */
function rowsOnDisk(envsDir, names) {
  if (native.problem !== undefined) {
    const { Failed } = require('./problems.js');
    throw new Failed(native.problem);
  }
  // One call for all, because the kernel's list of sockets is read once a call.
  const observed = native.NativeManager.observe(envsDir, names);
  const now = process.platform === 'linux' ? os.uptime() * 1000 : null;
  // Most plugins have the same owner.
  const commands = new Map();
  const commandOf = (pid) => {
    if (!commands.has(pid)) commands.set(pid, readCommand(pid));
    return commands.get(pid);
  };
  return observed.map((observation) => row(observation, { now, commandOf }));
}

function row(observation, { now, commandOf }) {
  const { pluginName: name, problem, holder, generations, unidentifiedPid, unidentifiedLives, logPath, staleSocket } = observation;
  const nothing = { pid: null, uptime: null, cpuPercent: null, memory: null, processes: null, version: null, keeper: null };
  // Of a living owner and of an ended plugin alike: only the owner counts and remembers.
  const unknown = { restarts: null, lastError: null };
  const owner = ownerOf(observation, commandOf);
  const unidentified = unidentifiedLives ? unidentifiedPid : null;
  const rest = { logFile: logPath ?? null, staleSocket: staleSocket ?? null, problem: problem ?? null };
  const serving = generations.find(({ lives }) => lives);
  const hasOwner = holder === 'owner' || holder === 'elsewhere';
  const orphans = hasOwner ? [] : [...new Set(generations.flatMap(({ lives, pid, left }) => (lives ? [pid, ...left] : left)))];
  const doubtful = hasOwner ? [] : generations.flatMap((generation) => generation.doubtful);
  const state = rest.problem ? null : stateOf({ serving, holder, orphans, unidentified });
  const known = serving === undefined ? nothing : measured(serving, now);
  return { name, state, ...known, owner, ...unknown, orphans, doubtful, unidentified, ...rest };
}

/**
 * Whether a living daemon is starting or stopping can't be known. If its owner has the name and no process is there, it may be starting,
 * waiting for a restart or for a connection.
 */
function stateOf({ serving, holder, orphans, unidentified }) {
  if (serving !== undefined) return serving.listens ? 'running' : 'alive';
  if (orphans.length > 0) return 'alive';
  if (holder === 'owner' || holder === 'elsewhere' || unidentified !== null) return null;
  return 'stopped';
}

function ownerOf({ holder, holderPid, place, generations }, commandOf) {
  const owner = { kind: 'dead', pid: null, command: null, place: null, keeper: null };
  if (holder === 'owner') return { ...owner, kind: 'process', pid: holderPid, command: commandOf(holderPid) };
  if (holder === 'elsewhere') return { ...owner, kind: 'elsewhere', pid: holderPid, place };
  if (holder === 'keeper') return { ...owner, keeper: holderPid };
  const isLeft = generations.some(({ lives, left, doubtful }) => lives || left.length > 0 || doubtful.length > 0);
  return isLeft ? owner : null;
}

function measured({ pid, start, keeper, version, cpuTime, memory, processes }, now) {
  const uptime = uptimeOf(start, now);
  const isMeasured = uptime !== null && uptime > 0 && cpuTime !== undefined && cpuTime !== null;
  const cpuPercent = isMeasured ? Math.round((cpuTime / uptime) * 1000) / 10 : null;
  return {
    pid,
    uptime,
    cpuPercent,
    memory: memory ?? null,
    processes: processes ?? null,
    version: version ?? null,
    keeper: keeper ?? null,
  };
}

/** Milliseconds. `now`: since boot. On macOS it is null, because the start in the record is no time. */
function uptimeOf(start, now) {
  return now === null ? null : Math.max(0, Math.round(now - (Number(start) * 1000) / TICKS_PER_SECOND));
}

function isSuspended(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return /^[Tt]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** The program and its script, such as "node loader.mjs". Further arguments may be secrets. */
function readCommand(pid) {
  let words;
  try {
    words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    // Gone, or there is no /proc.
    return null;
  }
  const [program, ...rest] = words;
  if (program === '') return null;
  // The value of an option such as `-e` or `-c` is no script.
  const script = rest[0] !== undefined && /^[^-].*(\/|\.[a-z]+$)/i.test(rest[0]) ? [path.basename(rest[0])] : [];
  // A program that has set its title has one word.
  return [path.basename(program.split(' ')[0]), ...script].join(' ');
}

/** For people: the column OWNER. */
function ownerText(owner) {
  if (owner === null) return null;
  if (owner.kind === 'process') return owner.command === null ? String(owner.pid) : `${owner.pid} ${owner.command}`;
  if (owner.kind === 'elsewhere') return `${owner.pid} ${owner.place}`;
  if (owner.kind === 'shared') return sharedText(owner);
  return owner.keeper === null ? 'dead' : `dead, keeper ${owner.keeper}`;
}

function sharedText({ sessions, linger }) {
  if (sessions === null) return 'shared';
  return linger === null ? `shared ×${sessions}` : 'shared, lingers';
}

module.exports = { isSuspended, ownerText, rowsOnDisk };
