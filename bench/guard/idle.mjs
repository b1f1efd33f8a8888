// What daemons cost that nobody asks anything of: nothing. And what they leave: nothing.

import { readdirSync } from 'node:fs';
import { sleep } from '../lib/clock.mjs';
import { helpers, name, switches, threads } from '../lib/proc.mjs';

const DAEMONS = 20;
const descriptors = () => readdirSync('/proc/self/fd').length;

export async function idle(world, check) {
  const manager = world.manager();
  await manager.startProcess(world.config('first'));
  const before = descriptors();
  const names = Array.from({ length: DAEMONS }, (_, index) => `d${index}`);
  await Promise.all(names.map((each) => manager.startProcess(world.config(each))));

  // Its stream, two outputs, its folder and its lock.
  const each = (descriptors() - before) / DAEMONS;
  check('descriptors per daemon in the owner', each <= 5, `${each}, at most 5`);

  // What a start leaves to do is done.
  await sleep(300);
  const pids = helpers();
  check('a guardian, and a keeper per daemon', pids.length === DAEMONS + 2, pids.length);
  const tid = threads(process.pid).find((thread) => name(process.pid, thread) === 'ally-bpm');
  const count = () => ({ helpers: pids.reduce((sum, pid) => sum + switches(pid), 0), thread: switches(process.pid, tid) });
  const from = count();
  await sleep(2_000);
  const to = count();
  check('wake-ups of guardian and keepers in 2 idle seconds', to.helpers === from.helpers, to.helpers - from.helpers);
  // Whatever sets a timer for later may look once when it is due.
  check("wake-ups of the supervisor's thread in 2 idle seconds", to.thread - from.thread <= 2, `${to.thread - from.thread}, at most 2`);

  for (let round = 0; round < 3; round++) {
    await Promise.all(names.map((each) => manager.stopProcess(each)));
    if (round < 2) await Promise.all(names.map((each) => manager.startProcess(world.config(each))));
  }
  // Outputs are closed when they have been read to their end, and a keeper says that its tree is gone just before it is gone itself.
  await settles(descriptors, before);
  check('descriptors that stopped daemons leave in the owner', descriptors() === before, descriptors() - before);
  await settles(() => helpers().length, 2);
  check('keepers that stopped daemons leave', helpers().length === 2, helpers().length - 2);
  await manager.stopAllProcesses();
  await world.nothingLeft();
}

/** Looks until it is so, or for a second. */
async function settles(look, expected) {
  for (let patience = 100; look() !== expected && patience > 0; patience--) await sleep(10);
}
