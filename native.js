'use strict';
// Loads the addon for this platform: from this folder's build (prebuilt/), or from the platform package. Without an addon,
// loading does not fail, and each start does: a program may use this package for a part of its work only.

const path = require('node:path');

/** Of this package. The platform package must have the same: addon and JavaScript layer are made for each other. */
const VERSION = '0.1.0';
const target = `${process.platform}-${process.arch}`;
/** The type of the segment that names the dynamic linker. */
const PT_INTERP = 3;
/** Each place that had no addon, with the error. */
const failures = [];

/**
 * Each path is a literal in a `require` of its own, inside `try`: so tracers (@vercel/nft, ncc) find the files of all platforms that
 * are there, and bundlers pass over those that are not.
 */
function load() {
  switch (target) {
    case 'linux-x64':
      try {
        return found(require('./prebuilt/linux-x64/ally.node'), path.join(__dirname, 'prebuilt/linux-x64/ally-guardian'));
      } catch (error) {
        failed('./prebuilt/linux-x64/ally.node', error);
      }
      if (isMusl()) {
        try {
          return installed(require('@ally/background-process-manager-linux-x64-musl'));
        } catch (error) {
          return failed('@ally/background-process-manager-linux-x64-musl', error);
        }
      }
      try {
        return installed(require('@ally/background-process-manager-linux-x64-gnu'));
      } catch (error) {
        return failed('@ally/background-process-manager-linux-x64-gnu', error);
      }
    case 'linux-arm64':
      try {
        return found(require('./prebuilt/linux-arm64/ally.node'), path.join(__dirname, 'prebuilt/linux-arm64/ally-guardian'));
      } catch (error) {
        failed('./prebuilt/linux-arm64/ally.node', error);
      }
      if (isMusl()) {
        try {
          return installed(require('@ally/background-process-manager-linux-arm64-musl'));
        } catch (error) {
          return failed('@ally/background-process-manager-linux-arm64-musl', error);
        }
      }
      try {
        return installed(require('@ally/background-process-manager-linux-arm64-gnu'));
      } catch (error) {
        return failed('@ally/background-process-manager-linux-arm64-gnu', error);
      }
    case 'darwin-x64':
      try {
        return found(require('./prebuilt/darwin-x64/ally.node'), path.join(__dirname, 'prebuilt/darwin-x64/ally-guardian'));
      } catch (error) {
        failed('./prebuilt/darwin-x64/ally.node', error);
      }
      try {
        return installed(require('@ally/background-process-manager-darwin-x64'));
      } catch (error) {
        return failed('@ally/background-process-manager-darwin-x64', error);
      }
    case 'darwin-arm64':
      try {
        return found(require('./prebuilt/darwin-arm64/ally.node'), path.join(__dirname, 'prebuilt/darwin-arm64/ally-guardian'));
      } catch (error) {
        failed('./prebuilt/darwin-arm64/ally.node', error);
      }
      try {
        return installed(require('@ally/background-process-manager-darwin-arm64'));
      } catch (error) {
        return failed('@ally/background-process-manager-darwin-arm64', error);
      }
  }
  return undefined;
}

/** A program inside an archive of Electron can't be executed. Electron itself finds the addon that is unpacked beside it. */
const outsideArchive = (file) => file.replace(/([\\/])app\.asar(?=[\\/])/, '$1app.asar.unpacked');

const found = (addon, guardian) => ({ ...addon, guardian: outsideArchive(guardian) });

/** A platform package names its guardian itself, so that tracers find it. */
function installed(addon) {
  if (addon.version === VERSION) return found(addon, addon.guardian);
  throw Object.assign(new Error(`it has version ${addon.version}, and this package ${VERSION}`), { code: 'ERR_VERSION_MISMATCH' });
}

function failed(name, error) {
  failures.push({ name, error });
}

/** Whether this program runs with musl: the ELF file of a program names its dynamic linker (elf(5), PT_INTERP). */
function isMusl() {
  const { closeSync, openSync, readSync } = require('node:fs');
  try {
    const file = openSync('/proc/self/exe');
    const read = (position, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(file, bytes, 0, length, position));
    };
    try {
      const head = read(0, 64);
      const [size, count] = [head.readUInt16LE(54), head.readUInt16LE(56)];
      const segments = read(Number(head.readBigUInt64LE(32)), size * count);
      for (let at = 0; at < segments.length; at += size)
        if (segments.readUInt32LE(at) === PT_INTERP) return read(Number(segments.readBigUInt64LE(at + 8)), 256).includes('/ld-musl-');
      return false;
    } finally {
      closeSync(file);
    }
  } catch {
    return false;
  }
}

const native = load() ?? require('./lib/addon-missing.js').standIn(target, failures);

module.exports.NativeManager = native.NativeManager;
/** Why there is no addon. With one: undefined. */
module.exports.problem = native.problem;
/** The path of the guardian's program, beside the addon. Without an addon: undefined. */
module.exports.guardian = native.guardian;
