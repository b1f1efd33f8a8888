/**
 * What runs on this machine: the system's own account, asked without the manager that is on trial.
 *
 * A process is `{ pid, parent, started, zombie, command }`. Its pid alone does not identify it, as
 * pids are used again; together with the time it was started, it does.
 */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

export const listProcesses = process.platform === 'linux' ? fromProc : fromPs;

export function sameProcess(a, b) {
  return a.pid === b.pid && a.started === b.started;
}

/** Everything that descends from `pid`, without itself. */
export function descendants(processes, pid) {
  const children = processes.filter((each) => each.parent === pid);
  return children.flatMap((child) => [child, ...descendants(processes, child.pid)]);
}

/** Pids of processes that have `text` in the environment they were started with, however they got away. */
export async function pidsWithEnvironment(text) {
  if (process.platform !== 'linux') return [];
  const pids = await numericFolders('/proc');
  const found = await Promise.all(pids.map(async (pid) => (await read(`/proc/${pid}/environ`)).includes(text)));
  return pids.filter((_, index) => found[index]);
}

async function fromProc() {
  const stats = await Promise.all((await numericFolders('/proc')).map((pid) => read(`/proc/${pid}/stat`)));
  return stats.filter((stat) => stat !== '').map(parseStat);
}

// proc_pid_stat(5). The name is in parentheses and may hold some, or spaces, itself.
function parseStat(stat) {
  const open = stat.indexOf('(');
  const close = stat.lastIndexOf(')');
  const fields = stat.slice(close + 2).split(' ');
  return {
    pid: Number.parseInt(stat, 10),
    parent: Number(fields[1]),
    // Ticks since boot: field 22, and the first of these is field 3.
    started: fields[19],
    zombie: fields[0] === 'Z' || fields[0] === 'X',
    command: stat.slice(open + 1, close),
  };
}

async function fromPs() {
  const columns = ['pid=', 'ppid=', 'stat=', 'lstart=', 'comm='].flatMap((column) => ['-o', column]);
  const pending = run('ps', ['-ax', ...columns], { env: { ...process.env, LC_ALL: 'C' } });
  const { stdout } = await pending;
  return (
    stdout
      .split('\n')
      .map((line) => /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(\S+\s+\S+\s+\S+\s+\S+\s+\S+)\s+(.*)$/.exec(line))
      .filter((match) => match !== null)
      .map(([, pid, parent, state, started, command]) => ({
        pid: Number(pid),
        parent: Number(parent),
        started,
        zombie: state.startsWith('Z'),
        command,
      }))
      // ps sees itself too.
      .filter((each) => each.pid !== pending.child.pid)
  );
}

async function numericFolders(path) {
  return (await readdir(path)).filter((name) => /^\d+$/.test(name)).map(Number);
}

// A process may be gone, or not ours to read, by the time that we look.
async function read(path) {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return '';
  }
}
