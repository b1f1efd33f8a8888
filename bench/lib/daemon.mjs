// Builds the benchmark's daemon.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './trial.mjs';

/** The path of the daemon. Optimised and static, but in the profile of the tests, because the addon's profile takes minutes. */
export function daemon() {
  const flags = process.platform === 'linux' ? ['-C', 'target-feature=+crt-static'] : [];
  const args = [
    'rustc',
    '--quiet',
    '--example',
    'bench-daemon',
    '--',
    '-C',
    'opt-level=3',
    '-C',
    'debuginfo=0',
    '-C',
    'strip=symbols',
    ...flags,
  ];
  const { status, error } = spawnSync('cargo', args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (error || status !== 0) throw new Error(`the benchmark's daemon can't be built: ${error?.message ?? `cargo ended with ${status}`}`);
  return join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'debug', 'examples', 'bench-daemon');
}
