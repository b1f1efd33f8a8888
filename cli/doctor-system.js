'use strict';
// The checks of the system and of the installation.

const fs = require('node:fs');
const path = require('node:path');

const native = require('../native.js');
const { ok, problem, quoted, warning } = require('./checks.js');

/** The least number of descriptors for an owner of some daemons: each takes about six. */
const FILES_LEAST = 256;
const PROCESSES_LEAST = 256;
const WATCHES_LEAST = 8;
const INSTANCES_LEAST = 8;

function checkSystem(envsDir) {
  const { version } = require('../package.json');
  const checks = [addon(version), guardian()];
  if (native.problem === undefined) checks.push(...kernel(native.NativeManager.systemProblems()));
  if (process.platform === 'linux') checks.push(...limits());
  checks.push(...envsFolder(envsDir));
  return checks;
}

function addon(version) {
  if (native.problem !== undefined) return problem('addon', native.problem, { remedy: 'npm install' });
  return ok('addon', `version ${version} for ${process.platform}-${process.arch}, Node.js ${process.version}`);
}

function guardian() {
  if (native.guardian === undefined) return problem('guardian', 'there is no guardian without an addon', { remedy: 'npm install' });
  let found;
  try {
    found = fs.statSync(native.guardian);
  } catch (error) {
    return problem('guardian', `${native.guardian}: ${error.code}`, { remedy: 'npm install' });
  }
  const remedy = `chmod 755 ${quoted(native.guardian)}`;
  if (!found.isFile()) return problem('guardian', `${native.guardian} is no file`, { remedy: 'npm install' });
  // access(2) grants everything to root.
  if ((found.mode & 0o111) === 0)
    return problem('guardian', `${native.guardian} is not executable (mode ${octal(found.mode)})`, { remedy });
  try {
    fs.accessSync(native.guardian, fs.constants.X_OK);
  } catch (error) {
    return problem('guardian', `${native.guardian} is not executable for this user (${error.code})`, { remedy });
  }
  if (found.mode & 0o002) {
    return problem('guardian', `${native.guardian} is writable for all users (mode ${octal(found.mode)})`, { remedy });
  }
  return ok('guardian', native.guardian);
}

function kernel({ proc, pidfd, unixDiag, inotify }) {
  return [
    proc ? problem('/proc', proc, { remedy: 'mount -t proc proc /proc' }) : ok('/proc', 'shows the processes of this pid namespace'),
    pidfd ? warning('pidfd', `${pidfd}: a signal is checked just before it is sent`) : ok('pidfd', 'pidfd_open(2) works'),
    unixDiag
      ? warning('unix_diag', `${unixDiag}: readiness connects to the daemon`, { remedy: 'modprobe unix_diag' })
      : ok('unix_diag', 'the kernel tells who listens'),
    inotify
      ? warning('inotify', `${inotify}: changes in folders are found by polling`, { remedy: 'sysctl fs.inotify.max_user_instances=512' })
      : inotifyLimits(),
  ];
}

function inotifyLimits() {
  const read = (name) => Number(readText(`/proc/sys/fs/inotify/${name}`) ?? Number.NaN);
  const [watches, instances] = [read('max_user_watches'), read('max_user_instances')];
  if (watches < WATCHES_LEAST) {
    return warning('inotify', `only ${watches} watches per user`, { remedy: 'sysctl fs.inotify.max_user_watches=65536' });
  }
  if (instances < INSTANCES_LEAST) {
    return warning('inotify', `only ${instances} instances per user`, { remedy: 'sysctl fs.inotify.max_user_instances=512' });
  }
  return ok('inotify', Number.isNaN(watches) ? 'works' : `works (${instances} instances, ${watches} watches per user)`);
}

/** The soft limits of this process, which an owner started in the same way has too. */
function limits() {
  const text = readText('/proc/self/limits') ?? '';
  const of = (name, resource, least, flag) => {
    const soft = new RegExp(`^${resource}\\s+(\\S+)`, 'm').exec(text)?.[1];
    if (soft === undefined) return [];
    if (soft === 'unlimited' || Number(soft) >= least) return [ok(name, `${soft} per ${flag === 'u' ? 'user' : 'process'}`)];
    return [warning(name, `only ${soft} per ${flag === 'u' ? 'user' : 'process'}`, { remedy: `ulimit -${flag} ${least * 4}` })];
  };
  return [...of('processes', 'Max processes', PROCESSES_LEAST, 'u'), ...of('open files', 'Max open files', FILES_LEAST, 'n')];
}

function envsFolder(envsDir) {
  const uid = process.getuid();
  let found;
  try {
    found = fs.statSync(envsDir);
  } catch (error) {
    if (error.code === 'ENOENT')
      return [ok('envs folder', `${envsDir} does not exist yet: the first start makes it`), ...longestName(envsDir)];
    return [problem('envs folder', `${envsDir}: ${error.code}`)];
  }
  if (!found.isDirectory())
    return [problem('envs folder', `${envsDir} is no folder`, { remedy: `mv ${quoted(envsDir)} ${quoted(`${envsDir}.old`)}` })];
  if (found.uid !== uid && found.uid !== 0) {
    return [
      problem('envs folder', `${envsDir} belongs to user ${found.uid}, and this is user ${uid}`, {
        remedy: `chown ${uid} ${quoted(envsDir)}`,
      }),
    ];
  }
  const isOpen = (found.mode & 0o022) !== 0 && (found.mode & 0o1000) === 0;
  if (isOpen) {
    const seen = `others can replace the folders in ${envsDir} (mode ${octal(found.mode)})`;
    return [warning('envs folder', seen, { remedy: `chmod go-w ${quoted(envsDir)}` }), ...longestName(envsDir)];
  }
  return [ok('envs folder', `${envsDir} (mode ${octal(found.mode)}, user ${found.uid})`), ...longestName(envsDir)];
}

/** The longest name of a plugin whose default socket path the system accepts. */
function longestName(envsDir) {
  const room = require('./doctor-plugins.js').SOCKET_PATH_MAX - Buffer.byteLength(path.join(envsDir, 'x', 'daemon.sock')) + 1;
  if (room >= 20) return [];
  const seen = room > 0 ? `a plugin's name may have ${room} bytes only` : 'no plugin can have its socket there';
  return [
    (room > 0 ? warning : problem)('socket paths', `${envsDir} is so long that ${seen}`, {
      remedy: 'use a shorter --envs-dir, or set socketPath',
    }),
  ];
}

const octal = (mode) => (mode & 0o7777).toString(8).padStart(4, '0');

function readText(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

module.exports = { checkSystem, octal };
