// Programs that only a few commands need (other runtimes, test runners, zig) are kept outside the repository, in a folder that each
// checkout of it shares: ALLY_CACHE, or below the user's cache folder.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const home = () =>
  process.env.ALLY_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'ally-background-process-manager');

/** The folder `name` of the cache, filled by `fill` at its first use: whole or not at all. Undefined, with the reason on stderr, if it fails. */
export function cached(name, fill) {
  const folder = join(home(), name);
  if (existsSync(folder)) return folder;
  const staging = `${folder}.${process.pid}.new`;
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  const problem = fill(staging);
  if (problem !== undefined) {
    rmSync(staging, { recursive: true, force: true });
    console.error(`${name} can't be had: ${problem}`);
    return undefined;
  }
  try {
    renameSync(staging, folder);
  } catch (error) {
    // Another process was first, with the same content.
    if (!existsSync(folder)) throw error;
    rmSync(staging, { recursive: true, force: true });
  }
  return folder;
}

/** A folder whose node_modules has these packages, given as npm writes them in package.json: name and version or address. */
export function npmPackages(name, dependencies) {
  return cached(name, (folder) => {
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }));
    return failed('npm', ['install', '--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts', '--loglevel=error'], folder);
  });
}

/** A folder with these packages of PyPI, as `pip install --target` leaves it. */
export function pythonPackages(name, packages, options = []) {
  return cached(name, (folder) => {
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target', folder, ...options, ...packages];
    return failed('python3', pip, dirname(folder));
  });
}

function failed(command, args, cwd) {
  const { status, error, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] });
  if (error) return error.message;
  return status === 0 ? undefined : stderr.trim().split('\n').slice(-3).join('\n') || `${command} ends with ${status}`;
}
