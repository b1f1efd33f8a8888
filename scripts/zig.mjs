// cargo-zigbuild with zig as its linker: builds an addon that runs on systems older than this one, or for another C library.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pythonPackages } from './cache.mjs';

/** Both are programs that PyPI has ready-made. */
const PACKAGES = ['cargo-zigbuild==0.24.0', 'ziglang==0.17.0'];

/** The environment in which `cargo zigbuild` works. Undefined, with the reason on stderr, where it can't be had. */
export function zigEnvironment() {
  const folder = pythonPackages(`zig-${PACKAGES.map((name) => name.split('==')[1]).join('-')}`, PACKAGES);
  if (!folder) return undefined;
  const [bin, zig] = [join(folder, 'bin'), join(folder, 'ziglang', 'zig')];
  if (!existsSync(join(bin, 'cargo-zigbuild')) || !existsSync(zig)) {
    console.error(`zig can't be had: ${folder} is not as cargo-zigbuild and ziglang leave it. Remove it, and try again`);
    return undefined;
  }
  return { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}`, CARGO_ZIGBUILD_ZIG_PATH: zig };
}

/** Whether rustc has the standard library of this target. rustup is asked for one that is missing. */
export function hasTarget(target) {
  const has = () => {
    const { status, stdout } = spawnSync('rustc', ['--print', 'target-libdir', '--target', target], { encoding: 'utf8' });
    return status === 0 && existsSync(stdout.trim());
  };
  return has() || (spawnSync('rustup', ['target', 'add', target], { stdio: 'ignore', timeout: 120_000 }).status === 0 && has());
}
