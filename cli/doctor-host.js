'use strict';
// The checks of the host of shared daemons. Without one there are none.

const fs = require('node:fs');
const path = require('node:path');

const native = require('../native.js');
const { command, ok, problem, quoted, warning } = require('./checks.js');
const { isSuspended } = require('./disk.js');
const { hostBelow } = require('./host.js');

function checkHost(envsDir) {
  const folder = path.join(envsDir, `.ally-host-${process.geteuid()}`);
  let found;
  try {
    found = fs.lstatSync(folder);
  } catch {
    return [];
  }
  if (!found.isDirectory())
    return [problem('host', `${folder} is no folder, so nothing can be shared`, { remedy: `rm ${quoted(folder)}` })];
  // checkSystem has said why.
  if (native.problem !== undefined) return [];
  const host = hostBelow(envsDir);
  if (host === null) return [];
  const { plugins } = host;
  const pid = host.pid ?? notedPid(folder);
  if (pid !== null && isSuspended(pid)) return [warning('host', `process ${pid} is suspended`, { remedy: `kill -CONT ${pid}` })];
  // Of another build, in another sandbox, or it does not answer.
  if (host.problem !== null) return [warning('host', host.problem, { remedy: command('stop --all', envsDir) })];
  return [ok('host', `process ${pid}, ${sharedText(plugins)}`)];
}

function sharedText(plugins) {
  // It ends within a second, or it has just been made.
  if (plugins.length === 0) return 'no shared plugin';
  const shared = `${plugins.length} shared ${plugins.length === 1 ? 'plugin' : 'plugins'}`;
  const sessions = plugins.reduce((most, { info }) => Math.max(most, info.sessions ?? 0), 0);
  // What it has lingers.
  if (sessions === 0) return `${shared}, no session`;
  return `${shared}, at most ${sessions} ${sessions === 1 ? 'session' : 'sessions'} each`;
}

/** The pid in the note of the lock: a host that does not answer can't name itself. */
function notedPid(folder) {
  try {
    const [, pid] = /^host (\d+) /.exec(fs.readFileSync(path.join(folder, 'host.lock'), 'utf8')) ?? [];
    return pid === undefined ? null : Number(pid);
  } catch {
    return null;
  }
}

module.exports = { checkHost };
