/**
 * The processes of this system, read from /proc or ps(1) and not from the manager under test.
 *
 * A process is `{ pid, parent, started, zombie, command }`. Pids are reused, so pid and start time
 * together identify a process.
 */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

export const listProcesses = process.platform === 'linux' ? fromProc : fromPs;

export function sameProcess(a, b) {
  return a.pid === b.pid && a.started === b.started;
}

/** The descendants of `pid`. */
export function descendants(processes, pid) {
  const children = processes.filter((each) => each.parent === pid);
  return children.flatMap((child) => [child, ...descendants(processes, child.pid)]);
}

/** The pids of processes with `text` in the environment of their start, detached ones included. */
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

// proc_pid_stat(5). The name is in parentheses, and may contain parentheses and spaces.
function parseStat(stat) {
  const open = stat.indexOf('(');
  const close = stat.lastIndexOf(')');
  const fields = stat.slice(close + 2).split(' ');
  return {
    pid: Number.parseInt(stat, 10),
    parent: Number(fields[1]),
    // Field 22, in ticks since boot. `fields` begins with field 3.
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
      // ps lists itself too.
      .filter((each) => each.pid !== pending.child.pid)
  );
}

async function numericFolders(path) {
  return (await readdir(path)).filter((name) => /^\d+$/.test(name)).map(Number);
}

// The process may be gone, or belong to another user.
async function read(path) {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return '';
  }
}
