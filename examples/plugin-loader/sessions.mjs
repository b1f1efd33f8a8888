/** Two sessions with one daemon: the second attaches, the first is killed, and the last one leaves nothing behind. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { within } from './deadlines.mjs';

const SESSION = fileURLToPath(new URL('session.mjs', import.meta.url));
const STEP_TIMEOUT = 10_000;

/** Resolves to the pid of the daemon. `note` is called for each process of the part, before it may end. */
export async function shareOneDaemon({ envsDir, plugin, timeline, note }) {
  const sessions = [];
  const open = async (name) => {
    const session = await Session.open(name, { envsDir, plugin, timeline });
    sessions.push(session);
    return session;
  };
  try {
    const [first, second] = await Promise.all([open('session 1'), open('session 2')]);
    const { pid, took } = await first.call('load');
    await note(pid);
    first.print(`starts ${plugin.manifest.name}: ready in ${Math.round(took)} ms, pid ${pid}`);
    const attached = await second.call('load');
    expect(attached.pid === pid && attached.sessions === 2, 'the second session has the same daemon');
    second.print(`attaches to it in ${attached.took.toFixed(1)} ms: pid ${attached.pid}, ${attached.sessions} sessions`, 'green');

    await first.kill();
    first.print('killed with SIGKILL', 'yellow');
    const { answer, pid: still } = await second.call('request', { add: 'feed the cat' });
    expect(answer.id !== undefined && still === pid, 'the same daemon answers the second session');
    second.print(`asks it to keep "feed the cat": kept as note ${answer.id}, pid ${still}`, 'green');

    await second.call('leave');
    await second.ended();
    second.print('leaves, as the last one');
    return pid;
  } finally {
    await Promise.all(sessions.map((session) => session.kill()));
  }
}

function expect(isMet, promise) {
  if (!isMet) throw new Error(`not kept: ${promise}`);
}

class Session {
  #name;
  #timeline;
  #child;
  #exit;

  static async open(name, options) {
    const session = new Session(name, options);
    await session.#answer();
    return session;
  }

  constructor(name, { envsDir, plugin, timeline }) {
    this.#name = name;
    this.#timeline = timeline;
    this.#child = fork(SESSION, [envsDir, plugin.pluginPath]);
    this.#exit = once(this.#child, 'exit');
  }

  print(text, colour) {
    this.#timeline.print(this.#name, text, colour);
  }

  async call(name, argument) {
    const answer = this.#answer();
    this.#child.send({ call: name, argument });
    return answer;
  }

  async kill() {
    this.#child.kill('SIGKILL');
    await this.ended();
  }

  ended() {
    return within(STEP_TIMEOUT, `the end of ${this.#name}`, this.#exit);
  }

  async #answer() {
    const ended = this.#exit.then(() => [{ error: 'it has ended' }]);
    const [{ value, error }] = await within(
      STEP_TIMEOUT,
      `an answer of ${this.#name}`,
      Promise.race([once(this.#child, 'message'), ended]),
    );
    if (error !== undefined) throw new Error(`${this.#name}: ${error}`);
    return value;
  }
}
