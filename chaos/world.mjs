// What can be seen of the run from outside, in /proc.

import { readFileSync, readdirSync } from 'node:fs';

function read(path) {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** Pid, parent, session and name; undefined for what is gone, zombies included. */
export function look(pid) {
  const stat = read(`/proc/${pid}/stat`);
  const end = stat.lastIndexOf(')');
  if (end < 0) return undefined;
  const [state, parent, , session] = stat.slice(end + 2).split(' ');
  return /[ZX]/.test(state) ? undefined : { pid, parent: Number(parent), session: Number(session), name: stat.slice(stat.indexOf('(') + 1, end) };
}

export function everyone() {
  return readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).map((pid) => look(Number(pid))).filter(Boolean);
}

/** The daemons of this run with all that they made, by what their environment says. */
export function marked(envsDir) {
  const found = [];
  for (const process of everyone()) {
    const env = read(`/proc/${process.pid}/environ`).split('\0');
    if (!env.some((entry) => entry.startsWith(`SOCKET_PATH=${envsDir}/`))) continue;
    const value = (key) => env.find((entry) => entry.startsWith(`${key}=`))?.slice(key.length + 1);
    found.push({ ...process, owner: value('CHAOS_OWNER'), plugin: value('CHAOS_NAME') });
  }
  return found;
}

/** Guardians of this owner, and their keepers. */
export function helpers(owner) {
  const all = everyone();
  const guardians = all.filter(({ parent, name }) => parent === owner && name === 'ally-guardian');
  const keepers = all.filter(({ parent, name }) => name === 'ally-keeper' && guardians.some(({ pid }) => pid === parent));
  return { guardians, keepers };
}
