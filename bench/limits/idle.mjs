// Idle daemons and a frozen guardian cause no wake-up. Stopped daemons leave no descriptor and no keeper.

import { freeze } from '../../__tests__/helpers/freeze.js';
import { descriptors as openDescriptors, helpers, switches, threadName, threads } from '../../__tests__/helpers/proc.js';
import { sleep, until } from '../../__tests__/helpers/until.js';

const DAEMONS = 20;
const descriptors = () => openDescriptors(process.pid).length;

export async function idle(trial, check) {
  const manager = trial.manager();
  await manager.startProcess(trial.config('first'));
  const before = descriptors();
  const names = Array.from({ length: DAEMONS }, (_, index) => `d${index}`);
  await Promise.all(names.map((each) => manager.startProcess(trial.config(each))));

  // The stream to the keeper, stdout, stderr, the plugin's folder and its lock.
  const each = (descriptors() - before) / DAEMONS;
  check('descriptors per daemon in the owner', each <= 5, `${each}, at most 5`);

  // The work after the starts is done by then.
  await sleep(300);
  const pids = helpers();
  check('a guardian, and a keeper per daemon', pids.length === DAEMONS + 2, pids.length);
  const tid = threads(process.pid).find((thread) => threadName(process.pid, thread) === 'ally-bpm');
  const count = () => ({ helpers: pids.reduce((sum, pid) => sum + switches(pid), 0), thread: switches(process.pid, tid) });
  const from = count();
  await sleep(2_000);
  const to = count();
  check('wake-ups of guardian and keepers in 2 idle seconds', to.helpers === from.helpers, to.helpers - from.helpers);
  // A timer may be due in this time, and fires once.
  check("wake-ups of the supervisor's thread in 2 idle seconds", to.thread - from.thread <= 2, `${to.thread - from.thread}, at most 2`);

  for (let round = 0; round < 3; round++) {
    await Promise.all(names.map((each) => manager.stopProcess(each)));
    if (round < 2) await Promise.all(names.map((each) => manager.startProcess(trial.config(each))));
  }
  // Output pipes are closed at their end, after the stop resolved. A keeper reports TreeGone just before it exits.
  await until(() => descriptors() === before, 1_000).catch(() => {});
  check('descriptors that stopped daemons leave in the owner', descriptors() === before, descriptors() - before);
  await until(() => helpers().length === 2, 1_000).catch(() => {});
  check('keepers that stopped daemons leave', helpers().length === 2, helpers().length - 2);
  await manager.stopAllProcesses();
  // ptrace(2) may be denied to others.
  if (process.getuid() === 0) await frozenGuardian(tid, check);
  await trial.nothingLeft();
}

/** A guardian that is released while it can't run ends much later. The kernel tells the owner when. */
async function frozenGuardian(tid, check) {
  await until(() => helpers().length === 1, 1_000);
  const [guardian] = helpers();
  const goOn = await freeze({ pid: guardian });
  try {
    // The guardian is released 400 ms after the last daemon.
    await sleep(800);
    const from = switches(process.pid, tid);
    await sleep(2_000);
    const count = switches(process.pid, tid) - from;
    check("wake-ups of the supervisor's thread in 2 s with a frozen guardian", count <= 1, `${count}, at most 1`);
  } finally {
    await goOn();
  }
}
