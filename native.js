'use strict';
// Loads the addon for this platform: from this folder's build (prebuilt/), or from the platform package. Without an addon,
// loading does not fail, and each start does: a program may use this package for a part of its work only.

const path = require('node:path');

const target = `${process.platform}-${process.arch}`;
const supported = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'];

function load() {
  const file = path.join(__dirname, 'prebuilt', target, 'ally.node');
  if (!supported.includes(target)) {
    return standIn(`${target} is not supported. Run the program on one of ${supported.join(', ')}`);
  }
  const problems = [];
  for (const name of [file, `@ally/background-process-manager-${target}/ally.node`]) {
    try {
      const addon = require.resolve(name);
      return { ...require(addon), guardian: path.join(path.dirname(addon), 'ally-guardian') };
    } catch (error) {
      problems.push(`${name}: ${String(error?.message).split('\n', 1)[0]}`);
    }
  }
  const cure = 'Install the package again with its optional dependencies, or run `npm run build` in a clone';
  return standIn(`no addon for ${target} could be loaded (${problems.join('; ')}). ${cure}`, file);
}

function standIn(problem, file) {
  const { withoutAddon } = require('./lib/without-addon.js');
  return { NativeManager: withoutAddon(problem, file), problem, guardian: undefined };
}

const native = load();

module.exports.NativeManager = native.NativeManager;
/** Why there is no addon. With one: undefined. */
module.exports.problem = native.problem;
/** The path of the guardian's program, beside the addon. Without an addon: undefined. */
module.exports.guardian = native.guardian;
