// What the kernel says about processes.

import { readFileSync, readdirSync } from 'node:fs';

const read = (path) => {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined; // gone, or not ours to read
  }
};

/** One number of /proc/PID/status or of another file of such lines. */
function number(text, key) {
  const found = new RegExp(`^${key}:\\s*(\\d+)`, 'm').exec(text ?? '');
  return found ? Number(found[1]) : undefined;
}

export const status = (pid, key, tid) => number(read(tid ? `/proc/${pid}/task/${tid}/status` : `/proc/${pid}/status`), key);

/** Its share of memory, in KiB. */
export const pss = (pid) => number(read(`/proc/${pid}/smaps_rollup`), 'Pss') ?? 0;

export const name = (pid, tid) => read(tid ? `/proc/${pid}/task/${tid}/comm` : `/proc/${pid}/comm`)?.trim();

function list(folder) {
  try {
    return readdirSync(folder)
      .filter((entry) => /^\d+$/.test(entry))
      .map(Number);
  } catch {
    return [];
  }
}

export const threads = (pid) => list(`/proc/${pid}/task`);

const children = (pid) =>
  threads(pid).flatMap((tid) => (read(`/proc/${pid}/task/${tid}/children`) ?? '').trim().split(' ').filter(Boolean).map(Number));

export function descendants(pid) {
  const found = children(pid);
  for (let next = 0; next < found.length; next++) found.push(...children(found[next]));
  return found;
}

/** The guardians and keepers below this process. */
export const helpers = (pid = process.pid) => descendants(pid).filter((child) => /^ally-(guardian|keeper)$/.test(name(child) ?? ''));

/** CPU time of a process of one thread, in ms, to the nanosecond where the kernel keeps it (schedstat). */
export const ranFor = (pid) => Number(read(`/proc/${pid}/schedstat`)?.split(' ')[0] ?? 0) / 1e6;

/** For how long, in ms, the first thread of a process could have run and had no core: what the rest of the machine took. */
export const waited = (pid) => Number(read(`/proc/${pid}/schedstat`)?.split(' ')[1] ?? 0) / 1e6;

/** Context switches of a process, or of one of its threads: each stands for a wake-up. */
export const switches = (pid, tid) => status(pid, 'voluntary_ctxt_switches', tid) ?? 0;

/** Those that were started with `text` in their environment. */
export function mentioning(text) {
  return list('/proc').filter(
    (pid) => pid !== process.pid && read(`/proc/${pid}/environ`)?.includes(text) && read(`/proc/${pid}/stat`)?.includes(') Z') === false,
  );
}
