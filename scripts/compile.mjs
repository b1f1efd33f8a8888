// The commands that make the two binaries.

import { join } from 'node:path';
import { run } from './toolchain.mjs';

const library = (triple) => `libally_background_process_manager.${triple.includes('-apple-') ? 'dylib' : 'so'}`;

/** The addon alone, without native.d.ts. `linkFor`: the target as a linker other than cargo's own knows it. Returns the path. */
export function compileAddon(root, { triple, folder, command = 'build', linkFor = triple, env }) {
  const args = [command, '--release', '--package', 'ally-background-process-manager', '--lib', '--target', linkFor, '--target-dir', folder];
  run('cargo', args, { cwd: root, env });
  return join(folder, triple, 'release', library(triple));
}

/** The guardian's program. `flags`: for rustc. Returns the path. */
export function compileGuardian(root, { triple, folder, command = 'rustc', flags = [], env }) {
  const args = ['--release', '--package', 'ally-guardian', '--target', triple, '--target-dir', folder, '--bin', 'ally-guardian'];
  run('cargo', [command, ...args, ...(flags.length > 0 ? ['--', ...flags] : [])], { cwd: root, env });
  return join(folder, triple, 'release', 'ally-guardian');
}
