'use strict';

// Sessions of shared daemons: managers of this process, and owners that obey commands. What is known of their host.

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { freeze } = require('../helpers/freeze');
const { alive, identify, signal } = require('../helpers/proc');
const { until } = require('../helpers/until');

const GRACE = 500;

function useSessions(world) {
  const folder = () => `${world.envsDir}/.ally-host-${process.geteuid()}`;

  /** A session in a process of its own, whose events are recorded. */
  const session = (order = {}, options = {}) => world.owner('obeys-commands.js', { recorded: true, ...order }, { ipc: true, ...options });

  /** With the folder of the test in its environment, by which the test finds what is left. */
  const shared = (name = 'plugin', fixture = ['serves.py'], { envVars, ...changes } = {}) =>
    world.config(name, fixture, {
      shared: true,
      shutdownGracePeriod: GRACE,
      envVars: { TEST_WORLD: world.dir, ...envVars },
      ...changes,
    });

  /** The host that is there; undefined without one. */
  function host() {
    const note = fs.existsSync(`${folder()}/host.lock`) ? fs.readFileSync(`${folder()}/host.lock`, 'utf8') : '';
    const [, pid, start] = /^host (\d+) (\d+) /.exec(note) ?? [];
    if (pid === undefined) return undefined;
    const found = identify(Number(pid));
    return found.start === start && alive(found) ? found : undefined;
  }

  /** Freezes the host as `freeze` does. Its thread that answers is the one of the supervisor. */
  async function frozenHost() {
    const found = host();
    const threads = fs.readdirSync(`/proc/${found.pid}/task`);
    const pid = threads.find((thread) => fs.readFileSync(`/proc/${found.pid}/task/${thread}/comm`, 'utf8') === 'ally-bpm\n');
    return { host: found, thaw: await freeze({ pid }) };
  }

  const suspendHost = () => signal(host(), 'SIGSTOP');

  /** What the session reads next from the host is no message. Needs `ptrace`. */
  const spoil = (owner) =>
    execFileSync('/usr/bin/python3', [
      '-S',
      '-E',
      path.join(__dirname, '../helpers/spoil.py'),
      String(host().pid),
      String(owner.child.pid),
    ]);

  const hostGone = (deadline = 1_500) => until(() => host() === undefined, deadline, 'the host is gone');

  /** A session that has the daemon, with the process of the daemon. */
  async function started(config = shared(), order = {}) {
    const owner = session(order);
    expect(await owner.asks('startProcess', config)).toEqual({});
    return { owner, daemon: identify((await owner.asks('getPid', config.pluginName)).value) };
  }

  const kill = async (owner) => {
    owner.child.kill('SIGKILL');
    await owner.exited;
  };

  const value = async (owner, verb, ...args) => (await owner.asks(verb, ...args)).value;

  return { folder, session, shared, host, spoil, frozenHost, suspendHost, hostGone, started, kill, value };
}

module.exports = { GRACE, useSessions };
