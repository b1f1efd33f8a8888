// What can be seen of the run from outside, in /proc.

import { readFileSync, readdirSync } from 'node:fs';

function read(path) {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

const PF_EXITING = 0x4;

/** Who has a pid now; undefined for what is gone, zombies included. `exiting`: it has lost its memory already, and its environment with it. */
export function look(pid) {
  const stat = read(`/proc/${pid}/stat`);
  const end = stat.lastIndexOf(')');
  if (end < 0) return undefined;
  const fields = stat.slice(end + 2).split(' ');
  const [state, parent, , session, , , flags] = fields;
  if (/[ZX]/.test(state)) return undefined;
  return {
    pid,
    parent: Number(parent),
    session: Number(session),
    name: stat.slice(stat.indexOf('(') + 1, end),
    start: fields[19],
    exiting: (Number(flags) & PF_EXITING) !== 0,
  };
}

export function everyone() {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((pid) => look(Number(pid)))
    .filter(Boolean);
}

/** Empty for what isn't ours to read, is gone, or is just becoming another program. */
export function environmentOf(pid) {
  const entries = read(`/proc/${pid}/environ`)
    .split('\0')
    .filter((entry) => entry.includes('='));
  return new Map(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
}

export function belongs(environment, envsDir) {
  return environment.get('SOCKET_PATH')?.startsWith(`${envsDir}/`) ?? false;
}

/** The daemons of this run with all that they made, by what their environment says. */
export function marked(envsDir) {
  const found = [];
  for (const process of everyone()) {
    const environment = environmentOf(process.pid);
    if (belongs(environment, envsDir))
      found.push({ ...process, owner: environment.get('CHAOS_OWNER'), plugin: environment.get('CHAOS_NAME') });
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
