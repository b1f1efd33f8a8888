'use strict';

// The probe `exec`: a shell script as its command, and waits for the processes of the command.

const { identify } = require('../helpers/proc');

const shell = (script, ...args) => ({ type: 'exec', command: 'sh', args: ['-c', script, 'sh', ...args] });

function useCommands(world) {
  /** A daemon whose health checks run `script`, with `$1` a file for the pids of its processes. */
  async function checkedBy(script, { manager = world.manager(), healthcheck, ...changes } = {}) {
    const marker = world.path('command');
    await manager.startProcess(
      world.config('plugin', ['serves.py'], {
        healthcheck: { interval: 30, timeout: 20_000, retries: 1, ...healthcheck, probe: shell(script, marker) },
        restart: { delay: 0 },
        ...changes,
      }),
    );
    return { manager, marker, leader: identify(manager.getPid('plugin')) };
  }

  return { checkedBy };
}

/** A command that forks twice: its stray has a POSIX session of its own. It then waits. `$1` gets the pids, by name. */
const LEAVES_A_STRAY = `
  echo command $$ >"$1.new"
  (setsid sh -c 'echo stray $$ >>"$1.new"; mv "$1.new" "$1"; exec sleep 60' sh "$1" &)
  while [ ! -e "$1" ]; do sleep 0.01; done
`;

module.exports = { LEAVES_A_STRAY, shell, useCommands };
