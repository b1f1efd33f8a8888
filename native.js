'use strict';
// Loads the addon for this platform: from this folder's build (prebuilt/), or from the platform package.

const path = require('node:path');

const target = `${process.platform}-${process.arch}`;
const supported = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'];

function load() {
  if (!supported.includes(target)) {
    throw unsupported(`${target} is not supported (only ${supported.join(', ')})`);
  }
  const folders = [path.join(__dirname, 'prebuilt', target), `@ally/background-process-manager-${target}`];
  const problems = [];
  for (const folder of folders) {
    try {
      const addon = require.resolve(path.posix.join(folder, 'ally.node'));
      return { ...require(addon), guardian: path.join(path.dirname(addon), 'ally-guardian') };
    } catch (error) {
      problems.push(`${folder}: ${String(error.message).split('\n', 1)[0]}`);
    }
  }
  throw unsupported(`no addon for ${target} could be loaded:\n  ${problems.join('\n  ')}`);
}

function unsupported(problem) {
  return Object.assign(new Error(`@ally/background-process-manager: ${problem}`), { code: 'ERR_UNSUPPORTED' });
}

const { NativeManager, guardian } = load();

module.exports.NativeManager = NativeManager;
/** The path of the guardian's program, beside the addon. */
module.exports.guardian = guardian;
