'use strict';

// An owner that obeys commands (fixtures/owners/obeys-commands.js), and what tests ask of it and of its processes.

const {
  alive,
  ancestors,
  children,
  descendants,
  descriptors,
  identify,
  signal,
  threadName,
  threads,
  withEnvironment,
  zombies,
} = require('./proc');
const { until } = require('./until');

const GRACE = 300;

function useCommandedOwner(world) {
  const commandedOwner = (order = {}, options = {}) => world.owner('obeys-commands.js', order, { ipc: true, ...options });

  const config = (plugin = 'plugin', fixture = ['serves.py'], changes = {}) =>
    world.config(plugin, fixture, { shutdownGracePeriod: GRACE, ...changes });

  /** A start and a stop work, and no process is left. */
  async function expectStartAndStop(owner, plugin = 'plugin', changes = {}) {
    expect(await owner.asks('startProcess', config(plugin, ['serves.py'], changes))).toEqual({});
    const { value: pid } = await owner.asks('getPid', plugin);
    const daemon = identify(pid);
    expect(alive(daemon)).toBe(true);
    expect(await owner.asks('stopProcess', plugin)).toEqual({});
    expect(alive(daemon)).toBe(false);
  }

  /** Every process of this test but that owner. */
  const processesBeside = (owner) => withEnvironment(world.dir).filter(({ pid }) => pid !== owner.pid);

  const descriptorCount = (owner) => descriptors(owner.pid).length;

  const supervisorThread = (owner) => threads(owner.pid).find((tid) => threadName(owner.pid, tid) === 'ally-bpm');

  async function guardianOf(owner) {
    const [guardian] = await until(() => children(owner.pid).length === 1 && children(owner.pid), 5_000, 'there is one guardian');
    return guardian;
  }

  /** Kills the guardian of an owner without daemons. It may have exited: it does so 0.4 s after the last daemon. */
  async function endGuardian(owner) {
    for (const guardian of children(owner.pid)) signal(guardian, 'SIGKILL');
    await until(() => children(owner.pid).length === 0 && zombies(owner.pid).length === 0, 5_000, 'the guardian is gone');
  }

  return { commandedOwner, config, expectStartAndStop, processesBeside, descriptorCount, supervisorThread, guardianOf, endGuardian };
}

/** The processes between an owner and its daemon: the keeper, then the guardian. */
const between = (owner, daemon) => ancestors(daemon.pid).filter(({ pid }) => descendants(owner.pid).some((child) => child.pid === pid));

/** An error as an owner reports it: with that code, and these parts in its message, in that order. */
/** If a part names an errno, at its beginning or behind a path, the error carries it as well. */
const errorWith = (code, ...parts) => ({
  isError: true,
  errno: parts.map((part) => /(?:^|: )(E[A-Z0-9]{2,})\b/.exec(part)?.[1]).find(Boolean),
  code,
  pluginName: 'plugin',
  message: expect.stringMatching(new RegExp(parts.map((part) => part.replace(/[.[\]]/g, '\\$&')).join('.*'))),
});

module.exports = { between, errorWith, useCommandedOwner };
