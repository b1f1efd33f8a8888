// Builds the two binaries of a platform package: the addon for old systems where zig can be had, the guardian without any library.

import { join } from 'node:path';
import { compileAddon, compileGuardian } from '../compile.mjs';
import { fail, hostTarget, sourcesOf, targetFolder } from '../toolchain.mjs';
import { hasTarget, zigEnvironment } from '../zig.mjs';
import { GLIBC, TARGETS } from './targets.mjs';

/** Returns the paths of both, and whether the addon keeps to the glibc of old systems. Ends the program if it can't be built. */
export function buildBinaries(root, target, { zig: wanted = true } = {}) {
  const host = hostTarget(root);
  if (!hasTarget(target.triple)) fail(`rustc has no library for ${target.triple}. Run \`rustup target add ${target.triple}\`.`);
  const zig = wanted && target.os === 'linux' ? zigEnvironment() : undefined;
  if (!zig && target.os === 'linux' && target.triple !== host) fail(`a build for ${target.triple} on ${host} needs zig.`);
  const before = sourcesOf(root);
  const addon = zig ? zigAddon(root, target, zig) : compileAddon(root, { triple: target.triple, folder: targetFolder(root) });
  const guardian = guardianOf(root, target, host, zig);
  if (sourcesOf(root) !== before) fail('the sources changed during the build. Build again');
  return { addon, guardian };
}

/** Beside the folder of other builds, which would be compiled anew after this one. */
const folderOf = (root, name) => join(targetFolder(root), 'dist', name);

function zigAddon(root, { triple, libc }, zig) {
  const dynamic = `CARGO_TARGET_${triple.toUpperCase().replaceAll('-', '_')}_RUSTFLAGS`;
  return compileAddon(root, {
    triple,
    command: 'zigbuild',
    linkFor: libc === 'glibc' ? `${triple}.${GLIBC}` : triple,
    folder: folderOf(root, 'addon'),
    // For musl, rustc would link the C library into the addon, which then has two of them.
    env: libc === 'musl' ? { ...zig, [dynamic]: '-C target-feature=-crt-static' } : zig,
  });
}

/** zig can't link glibc statically, and this machine's linker can do so only for itself. All others get a guardian with musl inside. */
function guardianOf(root, target, host, zig) {
  if (target.os !== 'linux') return compileGuardian(root, { triple: target.triple, folder: targetFolder(root) });
  if (target.triple === host) return compileGuardian(root, { triple: host, folder: targetFolder(root), flags: STATIC });
  const { triple } = TARGETS.find(({ cpu, libc }) => cpu === target.cpu && libc === 'musl');
  if (!hasTarget(triple)) fail(`rustc has no library for ${triple}. Run \`rustup target add ${triple}\`.`);
  return compileGuardian(root, { triple, command: 'zigbuild', folder: folderOf(root, 'guardian'), env: zig });
}

const STATIC = ['-C', 'target-feature=+crt-static'];
