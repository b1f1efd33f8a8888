'use strict';

// Tests that need something of the machine: where it is missing they are skipped, and their titles say why.

const os = require('node:os');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { onLinux, read } = require('./proc');

const ROOT = path.join(__dirname, '..', '..');

/** Packages of PyPI that scripts/test.mjs installs. */
const TOOLS = path.join(ROOT, 'target', 'python');

/** Two users that own nothing here. */
const SOMEBODY = '54321';
const ANOTHER = '54322';
const as = (uid) => ['setpriv', '--reuid', uid, '--regid', uid, '--clear-groups'];

function works(command, ...args) {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** fanotify(7): FAN_CLASS_CONTENT needs CAP_SYS_ADMIN and CONFIG_FANOTIFY_ACCESS_PERMISSIONS. */
const CAN_HOLD_OPENS = 'import ctypes; assert ctypes.CDLL(None).fanotify_init(5, 0) >= 0';

const root = onLinux && process.getuid() === 0;
const checks = {
  Linux: () => onLinux,
  strace: () => onLinux && works('strace', '-qq', '-e', 'trace=none', '-e', 'inject=fchown:error=EPERM', 'true'),
  root: () => root,
  'Linux 6.9': () => onLinux && os.release().localeCompare('6.9', 'en', { numeric: true }) >= 0,
  'systemd-notify': () => works('systemd-notify', '--version'),
  libsystemd: () => works('python3', '-S', '-E', '-c', 'import ctypes; ctypes.CDLL("libsystemd.so.0")'),
  readelf: () => works('readelf', '--version'),
  rustc: () => works('rustc', '--version'),
  cc: () => works('cc', '--version'),
  glibc: () => onLinux && process.report.getReport().header.glibcVersionRuntime !== undefined,
  perl: () => works('perl', '-e', '1'),
  'a pid namespace': () => onLinux && works('unshare', '-pf', '--mount-proc', '--kill-child', 'true'),
  'a network namespace': () => onLinux && works('unshare', '-n', 'true'),
  '/proc with subset=pid': () => root && works('unshare', '-m', 'mount', '-t', 'proc', '-o', 'subset=pid', 'proc', '/proc'),
  // core(5): into the working directory; a name that begins with '|' or '/' is a program or another folder.
  'held core dumps': () => root && /^[^|/@]/.test(read('/proc/sys/kernel/core_pattern')) && works('python3', '-c', CAN_HOLD_OPENS),
  'namespaces of its own': () => root && works('unshare', '-mpf', '--mount-proc', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'),
  'another user that can load the package': () =>
    root && works(...as(SOMEBODY), process.execPath, '-e', `require(${JSON.stringify(ROOT)})`),
  '/usr/bin/python3': () => works('/usr/bin/python3', '-S', '-E', '-c', 'import ctypes'),
  ptrace: () => root && works('/usr/bin/python3', '-S', '-E', '-c', 'import ctypes'),
  prometheus_client: () => works('python3', '-c', `import sys; sys.path.insert(0, ${JSON.stringify(TOOLS)}); import prometheus_client`),
  uvicorn: () => works('python3', '-c', `import sys; sys.path.insert(0, ${JSON.stringify(TOOLS)}); import uvicorn`),
  uv: () => works(path.join(TOOLS, 'bin', 'uv'), '--version'),
  'Symbol.asyncDispose': () => Symbol.asyncDispose !== undefined,
};
const results = new Map();

function has(need) {
  if (!results.has(need)) results.set(need, checks[need]());
  return results.get(need);
}

/** `test`, or a skipped one whose title says what is missing. */
function testWith(...needs) {
  const missing = needs.filter((need) => !has(need));
  if (missing.length === 0) return test;
  const title = (name) => `${name} (skipped: needs ${missing.join(' and ')})`;
  const skipped = (name, ...rest) => test.skip(title(name), ...rest);
  skipped.each =
    (table) =>
    (name, ...rest) =>
      test.skip.each(table)(title(name), ...rest);
  return skipped;
}

const testOnLinux = testWith('Linux');

module.exports = { ANOTHER, ROOT, SOMEBODY, TOOLS, as, testOnLinux, testWith };
