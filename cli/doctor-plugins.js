'use strict';
// The checks of the plugins: their folders, and what dead owners left there.

const fs = require('node:fs');
const path = require('node:path');

const native = require('../native.js');
const { command, ok, problem, quoted, warning } = require('./checks.js');
const { octal } = require('./doctor-system.js');
const { isSuspended, ownerText, rowsOnDisk } = require('./disk.js');

/** The bytes of sun_path without its NUL. */
const SOCKET_PATH_MAX = process.platform === 'darwin' ? 103 : 107;
const RECORD = ['daemon.pid', 'daemon.id'];
/** What an unfinished installation leaves in a plugin's folder. */
const INSTALLED_PARTS = ['pyvenv.cfg', 'bin', 'node_modules'];

/** The checks that `--fix` mends. */
const stale = new WeakSet();

async function checkPlugins(envsDir, { fix }) {
  let names;
  try {
    names = fs.readdirSync(envsDir).sort();
  } catch {
    // checkSystem has said why.
    return [];
  }
  // Names that begin with .ally- are of no plugin.
  const plugins = names.filter((name) => !name.startsWith('.ally-') && isFolder(path.join(envsDir, name)));
  const checks = plugins.flatMap((name) => folderChecks(envsDir, name));
  const withDaemon = plugins.filter((name) =>
    ['daemon.lock', ...RECORD, 'daemon.sock'].some((file) => exists(path.join(envsDir, name, file))),
  );
  if (native.problem !== undefined) return checks;
  const rows = rowsOnDisk(envsDir, withDaemon);
  const daemonChecks = rows.flatMap((row) => [...recordChecks(envsDir, row), ...runningChecks(row)]);
  if (fix) await mend(envsDir, daemonChecks);
  const running = rows.filter(({ state }) => state === 'running' || state === 'alive').length;
  return [
    ok('plugins', `${plugins.length} ${plugins.length === 1 ? 'folder' : 'folders'}, ${running} with a daemon`),
    ...checks,
    ...daemonChecks,
  ];
}

function folderChecks(envsDir, name) {
  const folder = path.join(envsDir, name);
  const of = { plugin: name };
  const found = fs.lstatSync(folder);
  if (found.isSymbolicLink()) {
    return [problem('folder', `${folder} is a symbolic link, which no start follows`, { ...of, remedy: `rm ${quoted(folder)}` })];
  }
  const checks = [];
  if (found.uid !== process.getuid()) {
    const remedy = `chown -R ${process.getuid()} ${quoted(folder)}`;
    checks.push(problem('folder', `${folder} belongs to user ${found.uid}, and this is user ${process.getuid()}`, { ...of, remedy }));
  } else if ((found.mode & 0o077) !== 0) {
    const seen = `${folder} is open to other users (mode ${octal(found.mode)})`;
    checks.push(warning('folder', seen, { ...of, remedy: `chmod 700 ${quoted(folder)}` }));
  }
  const socket = path.join(folder, 'daemon.sock');
  const bytes = Buffer.byteLength(socket);
  if (bytes > SOCKET_PATH_MAX) {
    const seen = `${socket} has ${bytes} bytes, and the system accepts ${SOCKET_PATH_MAX}`;
    checks.push(problem('socket path', seen, { ...of, remedy: 'use a shorter --envs-dir, or set socketPath' }));
  }
  return [...checks, ...environmentChecks(folder, of)];
}

function environmentChecks(folder, of) {
  let marker;
  try {
    marker = fs.readFileSync(path.join(folder, '.installed'), 'utf8');
  } catch {
    const parts = INSTALLED_PARTS.filter((part) => exists(path.join(folder, part)));
    if (parts.length === 0) return [];
    const seen = `is not installed: ${folder} has ${parts.join(', ')} and no .installed; load the plugin again`;
    return [problem('environment', seen, { ...of, remedy: `rm -rf ${parts.map((part) => quoted(path.join(folder, part))).join(' ')}` })];
  }
  let content = {};
  try {
    // An empty marker, and one that is no JSON, means installed.
    content = JSON.parse(marker);
  } catch {}
  if (content?.status !== 'error') return [];
  const seen = `its installation failed: ${typeof content.error === 'string' ? content.error : 'no reason was noted'}`;
  return [problem('environment', seen, { ...of, remedy: `rm ${quoted(path.join(folder, '.installed'))}` })];
}

/** The files of a daemon that is gone, and processes that have lost their owner. */
function recordChecks(envsDir, row) {
  const { name, owner, orphans, doubtful } = row;
  const of = { plugin: name };
  const folder = path.join(envsDir, name);
  if (row.problem !== null) return [problem('record', row.problem, of)];
  const blocked = RECORD.filter((file) => isFolder(path.join(folder, file)));
  if (blocked.length > 0) {
    const file = path.join(folder, blocked[0]);
    return [problem('record', `a folder is in the place of ${file}`, { ...of, remedy: `mv ${quoted(file)} ${quoted(`${file}.old`)}` })];
  }
  if (owner?.kind === 'process' || owner?.kind === 'shared') return [];
  if (owner?.kind === 'elsewhere') {
    const seen = `is held by process ${ownerText(owner)}; if that process is gone, remove the lock file`;
    return [warning('owner', seen, { ...of, remedy: `rm ${quoted(path.join(folder, 'daemon.lock'))}` })];
  }
  if (orphans.length > 0) {
    const seen = `pid ${orphans.join(', ')} of a dead owner ${orphans.length === 1 ? 'goes' : 'go'} on`;
    const remedy = command('stop', envsDir, name);
    // A keeper ends its tree, or keeps it as it was told to (onOwnerDeath: 'keep').
    if (owner?.keeper) return [warning('orphan', `${seen}, kept by process ${owner.keeper}`, { ...of, remedy })];
    return [problem('orphan', seen, { ...of, remedy })];
  }
  if (doubtful.length > 0) return [warning('orphan', `pid ${doubtful.join(', ')} may be of a dead owner, which is not proven`, of)];
  if (row.unidentified !== null)
    return [warning('pid file', `daemon.pid names process ${row.unidentified}, which no daemon.id identifies`, of)];
  return staleFiles(envsDir, row);
}

function staleFiles(envsDir, { name, staleSocket }) {
  const folder = path.join(envsDir, name);
  const more = { plugin: name, remedy: command('doctor --fix', envsDir) };
  const checks = [];
  const files = [...RECORD, ...RECORD.map((file) => `.${file}.new`)].filter((file) => exists(path.join(folder, file)));
  if (files.length > 0)
    checks.push(warning('pid file', `${files.join(', ')} ${files.length === 1 ? 'is' : 'are'} left of a process that is gone`, more));
  if (staleSocket !== null) checks.push(warning('socket', `nobody holds ${staleSocket}`, more));
  for (const check of checks) stale.add(check);
  return checks;
}

/** What a living daemon shows. */
function runningChecks({ name, owner, version, keeper }) {
  const of = { plugin: name };
  const checks = [];
  if (owner?.kind === 'process' && isSuspended(owner.pid)) {
    checks.push(warning('owner', `process ${ownerText(owner)} is suspended`, { ...of, remedy: `kill -CONT ${owner.pid}` }));
  }
  const own = require('../package.json').version;
  if (version !== null && version !== own) {
    checks.push(warning('version', `its owner has version ${version} of the package, and this is ${own}`, of));
  } else if (keeper !== null) {
    const program = programOf(keeper);
    if (program?.endsWith(' (deleted)'))
      checks.push(warning('version', `its keeper runs a program that was replaced or removed: ${program}`, of));
    else if (program !== undefined && program !== realPath(native.guardian)) {
      checks.push(warning('version', `its keeper is of another installation: ${program}`, of));
    }
  }
  return checks;
}

/** Removes stale files. What can't be locked at once is left, and the line says so. */
async function mend(envsDir, checks) {
  const mendable = checks.filter((check) => stale.has(check));
  if (mendable.length === 0) return;
  const { sentenceOf } = require('./stop.js');
  const ending = require('./leftovers.js').leftovers(envsDir, { signals: false });
  for (const name of new Set(mendable.map(({ plugin }) => plugin))) {
    const lines = mendable.filter(({ plugin }) => plugin === name);
    try {
      await ending.end(name);
      for (const check of lines) check.fixed = true;
    } catch (error) {
      for (const check of lines) check.seen += ` (not removed: ${sentenceOf(name, error)})`;
    }
  }
}

const programOf = (pid) => look(() => fs.readlinkSync(`/proc/${pid}/exe`));
const realPath = (file) => look(() => fs.realpathSync(file)) ?? file;

const exists = (file) => look(() => fs.lstatSync(file)) !== undefined;
const isFolder = (file) => look(() => fs.statSync(file))?.isDirectory() ?? false;

/** What can't be looked at (EACCES, ELOOP) is not there: another check names it. */
function look(read) {
  try {
    return read();
  } catch {
    return undefined;
  }
}

module.exports = { SOCKET_PATH_MAX, checkPlugins };
