// What both runs have: decisions by a seed, owners in processes of their own that carry out calls, counts, violations.

import { fork } from 'node:child_process';
import { living } from '../helpers/proc.js';
import { PYTHON } from '../helpers/python.js';
import { sleep } from '../helpers/until.js';

const SETTLED_WITHIN = 20_000;
/** Longer than the 2 s after which a process that does not act is continued or killed. */
const SUSPENDED_WITHIN = 2_500;

export const described = ({ pid, ppid, session, name, plugin }) =>
  `${plugin ?? ''} ${pid} (${name}, session ${session}, parent ${ppid} ${living(ppid)?.name ?? ''})`;

export class Chaos {
  #state;
  #tickets = 0;
  #pending = new Set();
  counts = {};
  violations = [];
  owners = new Map();
  spawned = 0;

  constructor({ seed, dir }) {
    this.#state = Number(seed) >>> 0;
    this.dir = dir;
  }

  /** mulberry32 */
  random() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  count(outcome) {
    this.counts[outcome] = (this.counts[outcome] ?? 0) + 1;
  }

  violated(description) {
    this.violations.push(description);
    console.error(`VIOLATION: ${description}`);
  }

  /** Goes on beside the next steps. */
  later(promise) {
    const done = promise.finally(() => this.#pending.delete(done));
    this.#pending.add(done);
  }

  async settled() {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  async spawnOwner() {
    this.spawned += 1;
    const id = `owner-${this.spawned}`;
    const child = fork(new URL('owner.mjs', import.meta.url), [this.dir, id], {
      env: { ...process.env, TEST_PYTHON: PYTHON },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const owner = { id, child, waiting: new Map(), keeperKilled: 0, suspended: false, gone: false, history: [] };
    this.owners.set(id, owner);
    child.on('message', ({ ticket, ...outcome }) => {
      owner.waiting.get(ticket)?.(outcome);
      owner.waiting.delete(ticket);
    });
    child.on('exit', () => {
      owner.gone = true;
      this.owners.delete(id);
      for (const settle of owner.waiting.values()) settle({ code: 'OWNER_GONE' });
    });
    await new Promise((resolve) => child.once('message', resolve));
    return owner;
  }

  /** Resolves to the outcome of an order. A missing outcome is a violation. */
  async ask(owner, verb, order = {}) {
    this.count(verb);
    this.#tickets += 1;
    const ticket = this.#tickets;
    const settled = new Promise((resolve) => owner.waiting.set(ticket, resolve));
    owner.child.send({ ticket, verb, ...order }, () => {});
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, SETTLED_WITHIN);
    });
    const outcome = await Promise.race([settled, late]);
    clearTimeout(timer);
    const history = () => owner.history.join('\n  ');
    if (!outcome) this.violated(`${verb} ${order.name ?? ''} of ${owner.id} did not settle within ${SETTLED_WITHIN} ms\n  ${history()}`);
    else if (outcome.code) this.count(outcome.code);
    if (outcome?.code === 'NO_CODE') this.violated(`${verb} failed without a code: ${outcome.message}`);
    // A typing error in this folder would end the start, and with it the test of what it starts.
    if (outcome?.code === 'ERR_INVALID_CONFIG') this.violated(`${verb} was refused: ${outcome.message}`);
    return outcome;
  }

  /** Keeps the last actions on an owner's processes, for the report of a violation. */
  noted(owner, action) {
    if (!owner) return;
    owner.history.push(`${(performance.now() / 1_000).toFixed(3)} s ${action}`);
    if (owner.history.length > 40) owner.history.shift();
  }

  kill(pid, signal, action, owner) {
    try {
      process.kill(pid, signal);
      this.count(action);
      this.noted(owner, `${action} ${pid}`);
    } catch {
      // It has ended in the meantime.
    }
  }

  /** Suspends a helper of an owner for a while, one at a time: two of them could not continue each other. */
  async suspend(owner, { pid, start }, action) {
    owner.suspended = true;
    this.kill(pid, 'SIGSTOP', action, owner);
    await sleep(this.random() * SUSPENDED_WITHIN);
    owner.suspended = false;
    if (living(pid)?.start === start) this.kill(pid, 'SIGCONT', 'continued', owner);
  }

  report({ seed, seconds }) {
    const operations = Object.values(this.counts).reduce((sum, n) => sum + n, 0);
    console.log(`seed ${seed}, ${seconds} s, ${this.spawned} owners, ${operations} operations and outcomes:`, this.counts);
    console.log(this.violations.length === 0 ? 'no invariant was violated' : `${this.violations.length} violations`);
    process.exitCode = this.violations.length === 0 ? 0 : 1;
  }
}
