'use strict';
// The host of shared daemons: what it shows of them takes the place of what the kernel can tell.

const native = require('../native.js');

/** `{ pid, problem, plugins }`, or null without a host. `problem`: why it shows no plugins. */
const hostBelow = (envsDir) => native.NativeManager.lookAtHost(envsDir);

/**
 * The rows with the host's word about the plugins that it has. Their `owner` is `{ kind: 'shared', pid, command, place, keeper, sessions,
 * lingers }`; if the host shows nothing, `sessions` and `lingers` are null, and only a daemon that lives is known to be shared.
 */
function withHost(rows, host) {
  if (host === null) return rows;
  const plugins = new Map(host.plugins.map((plugin) => [plugin.pluginName, plugin]));
  return rows.map((row) => {
    const plugin = plugins.get(row.name);
    const owner = { kind: 'shared', pid: host.pid ?? null, command: null, place: null, keeper: null, sessions: null, lingers: null };
    if (plugin !== undefined) {
      const { state, armed, restarts, sessions, lingers, lastError = null } = plugin;
      return { ...row, state: armed ? 'armed' : state, restarts, lastError, owner: { ...owner, sessions, lingers } };
    }
    const isOwned = row.owner?.kind === 'process' && row.owner.pid === owner.pid;
    return isOwned ? { ...row, lastError: host.problem ?? null, owner } : row;
  });
}

module.exports = { hostBelow, withHost };
