'use strict';
// Why there is no addon, and what to do. Read only if no addon could be loaded.

const { existsSync, readFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const path = require('node:path');

const { withoutAddon } = require('./without-addon.js');

const ROOT = path.dirname(__dirname);
const NAME = '@ally/background-process-manager';
const SUPPORTED = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'];

/** The addon from beside an Electron archive, or what takes its place. `failures`: the places that were tried, each with its error. */
function standIn(target, failures) {
  if (!SUPPORTED.includes(target)) {
    const problem = `${target} is not supported. Run the program on one of ${SUPPORTED.join(', ')}`;
    return { NativeManager: withoutAddon(problem), problem, guardian: undefined };
  }
  return fromUnpacked(failures) ?? explained(target, failures);
}

/** Electron finds an unpacked addon by itself, unless a packer has put it there in its own way. */
function fromUnpacked(failures) {
  const folder = `${ROOT}${path.sep}`.replace(/([\\/])app\.asar(?=[\\/])/, '$1app.asar.unpacked');
  if (folder.startsWith(ROOT)) return undefined;
  const load = createRequire(path.join(folder, 'native.js'));
  for (const { name } of [...failures]) {
    try {
      const addon = load(name);
      return { ...addon, guardian: addon.guardian ?? path.join(path.dirname(load.resolve(name)), 'ally-guardian') };
    } catch (error) {
      failures.push({ name: path.join(folder, name), error });
    }
  }
  return undefined;
}

function explained(target, failures) {
  // A file that is there and can't be loaded tells more than one that is missing.
  const { name, error } = failures.find((each) => !isMissing(each.error)) ?? failures[0];
  const file = placeOf(name);
  const { reason, cure } = isMissing(error) ? whyMissing(target) : whyRefused(file, firstLine(error));
  const tried = failures.map((each) => `${placeOf(each.name)}: ${firstLine(each.error)}`).join('; ');
  const problem = `no addon for ${target} could be loaded: ${reason} (${tried}). ${cure}`;
  return {
    NativeManager: withoutAddon(problem, file, { code: error?.code, message: firstLine(error), path: file }),
    problem,
    guardian: undefined,
  };
}

// Node of an older version gives ERR_DLOPEN_FAILED for a file that is gone since it was resolved: that is none of these.
const isMissing = (error) => ['MODULE_NOT_FOUND', 'ERR_MODULE_NOT_FOUND', 'ERR_UNKNOWN_BUILTIN_MODULE'].includes(error?.code);

const placeOf = (name) => (name.startsWith('.') ? path.join(ROOT, name) : name);

const firstLine = (error) => String(error?.message ?? error).split('\n', 1)[0];

function whyMissing(target) {
  if (isBundled())
    return {
      reason: `${NAME} was bundled, and its addon was left behind`,
      cure: `Mark ${NAME} as external in the bundler, or see docs/platforms.md#bundlers`,
    };
  if (existsSync(path.join(ROOT, 'scripts', 'build.mjs')))
    return { reason: 'this clone is not built', cure: 'Run `npm install` or `npm run build` in the clone' };
  return {
    reason: `the platform package for ${target} is not installed`,
    cure:
      'Install the package again with its optional dependencies (without --omit=optional). If package-lock.json was made on another ' +
      'platform, remove node_modules and package-lock.json first. In a clone, run `npm run build`',
  };
}

/** A bundler has moved this text away from package.json. */
function isBundled() {
  try {
    return JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')).name !== NAME;
  } catch {
    return true;
  }
}

/** What the dynamic linker's words mean. The first that matches counts. */
const REFUSALS = [
  {
    words: /^it has version (\S+), and this package (\S+)$/,
    reason: (file) => `${file} is of another version than ${NAME}`,
    cure: 'Remove node_modules, and package-lock.json if it names both versions, and install again',
  },
  {
    words: /Cannot load native addon because loading addons is disabled|loading addons|--allow-addons/i,
    reason: () => 'addons are disabled',
    cure: 'Run Node.js without --no-addons, and with --allow-addons where --permission is given',
  },
  {
    words: /ffi access|--allow-ffi/i,
    reason: () => 'Deno was not permitted to load it',
    cure: 'Run Deno with --allow-ffi',
  },
  {
    words: /failed to map segment|Operation not permitted/i,
    reason: (file) => `${file} may not be executed: its file system is mounted noexec, or a security policy forbids it`,
    cure: 'Install the package on a file system without noexec',
  },
  {
    words: /GLIBC_([\d.]+)' not found/,
    reason: (file, [, version]) => `${file} needs glibc ${version} or later${ownGlibc()}`,
    cure: 'Use a newer system, or build the package on this one: run `npm run build` in a clone',
  },
  {
    words: /ld-linux|libc\.so\.6|ld-musl|libc\.musl|Error relocating|symbol not found|GLIBC_PRIVATE/i,
    reason: (file) => `${file} is built for another C library than this system's (glibc or musl)`,
    cure: 'Remove node_modules, and install the package on this system',
  },
  {
    words: /wrong ELF class|incompatible architecture|Exec format error|mach-o, but wrong/i,
    reason: (file) => `${file} is built for another processor`,
    cure: 'Remove node_modules, and install the package on this machine',
  },
  {
    words: /invalid ELF header|file too short|not a mach-o|not valid mach-o|slice/i,
    reason: (file) => `${file} is damaged`,
    cure: 'Install the package again',
  },
];

function whyRefused(file, message) {
  for (const { words, reason, cure } of REFUSALS) {
    const match = words.exec(message);
    if (match) return { reason: reason(file, match), cure };
  }
  return { reason: `the system refuses ${file}`, cure: 'Install the package again, or run `npm run build` in a clone' };
}

function ownGlibc() {
  try {
    const version = process.report.getReport().header.glibcVersionRuntime;
    return version ? `, and this system has ${version}` : '';
  } catch {
    return '';
  }
}

module.exports = { standIn };
