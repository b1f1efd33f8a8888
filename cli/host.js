'use strict';
// The host of shared daemons: what it shows of them takes the place of what the kernel can tell.

const { existsSync } = require('node:fs');
const path = require('node:path');

/** One for each folder, because `ps --watch` asks again and again. */
const asking = new Map();

/** Whether a host has its socket there, which one that leaves removes, and a killed one does not. */
const isHostSocket = (envsDir) => existsSync(path.join(envsDir, `.ally-host-${process.geteuid()}`, 'host.sock'));

/** `{ pid, problem, plugins }`, or null without a host. `problem`: why it shows no plugins. */
function hostBelow(envsDir) {
  if (!isHostSocket(envsDir)) return null;
  const { leftovers } = require('./leftovers.js');
  if (!asking.has(envsDir)) asking.set(envsDir, leftovers(envsDir, { signals: false }));
  const { pid, plugins, failure } = asking.get(envsDir).view();
  if (!failure) return pid ? { pid, problem: null, plugins } : null;
  return { pid: failure.pid ?? null, problem: sentence(failure.message), plugins: [] };
}

/** The addon's sentence names the plugin of a call, and here is none. */
const sentence = (message) => message.replace(/^(Failed to (start|stop) background|Background) process '.*?'( is lost)?: /s, '');

/**
 * The rows with the host's word about the plugins that it has. Their `owner` is `{ kind: 'shared', pid, command, place, keeper, sessions,
 * linger }`; if the host shows nothing, `sessions` and `linger` are null, and only a daemon that lives is known to be shared.
 */
function withHost(rows, host) {
  if (host === null) return rows;
  const plugins = new Map(host.plugins.map((plugin) => [plugin.pluginName, plugin]));
  return rows.map((row) => {
    const owner = { kind: 'shared', pid: host.pid, command: null, place: null, keeper: null, sessions: null, linger: null };
    const plugin = plugins.get(row.name);
    if (plugin !== undefined) {
      const { state, armed, totalRestarts: restarts, sessions, lastError = null } = plugin.info;
      // The host's clock has fractions of a millisecond.
      const linger = plugin.linger === undefined || plugin.linger === null ? null : Math.round(plugin.linger);
      return { ...row, state: armed ? 'armed' : state, restarts, lastError, owner: { ...owner, sessions, linger } };
    }
    const isOwned = row.owner?.kind === 'process' && (row.owner.pid === host.pid || (host.pid === null && isHost(row.owner)));
    return isOwned ? { ...row, lastError: host.problem, owner: { ...owner, pid: row.owner.pid } } : row;
  });
}

/** A host that does not answer, or whose socket is gone, has no name but that of its program. */
const isHost = ({ command }) => command === 'ally-guardian';

module.exports = { hostBelow, isHost, isHostSocket, withHost };
