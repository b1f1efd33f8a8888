// The benchmark's daemon, built when it is needed.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './trial.mjs';

/** Its path. Optimised and without shared libraries, but in the profile of the tests: the addon's takes minutes. */
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
