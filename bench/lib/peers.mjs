// The peers of the benchmark, in bench/.peers: npm packages, and supervisors unpacked from Debian packages.
// No package is installed into the repository or the system. If a peer is missing, a line says so, and it is left out.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../.peers', import.meta.url));
const packages = { execa: '9.6.0', pm2: '7.0.4' };

function run(command, args, cwd) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8', timeout: 300_000 });
  if (status !== 0) throw new Error(error?.message ?? (stderr.trim().split('\n').at(-1) || `${command} ended with ${status}`));
  return stdout;
}

/** The paths { execa, pm2, runsv, s6, libraries }, each undefined if it is missing. */
export function peers(say) {
  mkdirSync(folder, { recursive: true });
  const found = {};
  const add = (what, find) => {
    try {
      Object.assign(found, find());
    } catch (error) {
      say(`without ${what}: ${error.message}`);
    }
  };
  add('execa and pm2', () => npmPackages(say));
  add('runit', () => ({ runsv: debian(say, 'runit', 'usr/bin/runsv') }));
  add('s6', () => {
    const s6 = debian(say, 's6', 'usr/bin/s6-supervise', /Depends: (lib(?:s6|skarnet|execline)\S*)/g);
    const lib = join(folder, 's6', 'usr', 'lib');
    return { s6, libraries: [lib, ...readdirSync(lib).map((name) => join(lib, name))].join(':') };
  });
  return found;
}

function npmPackages(say) {
  const manifest = join(folder, 'package.json');
  const wanted = JSON.stringify({ private: true, dependencies: packages });
  if (!existsSync(join(folder, 'node_modules')) || readFileSync(manifest, 'utf8') !== wanted) {
    say(
      `installing ${Object.entries(packages)
        .map((pair) => pair.join(' '))
        .join(' and ')}`,
    );
    rmSync(join(folder, 'node_modules'), { recursive: true, force: true });
    writeFileSync(manifest, wanted);
    run('npm', ['install', '--ignore-scripts', '--no-package-lock', '--no-audit', '--no-fund', '--loglevel=error'], folder);
  }
  const require = createRequire(manifest);
  return { execa: require.resolve('execa'), pm2: require.resolve('pm2') };
}

/** The path of a program of a Debian package. The package and its matching dependencies are unpacked, not installed. */
function debian(say, name, program, needs) {
  const path = join(folder, name, program);
  if (existsSync(path)) return path;
  if (spawnSync('apt-get', ['--version']).error || spawnSync('dpkg-deb', ['--version']).error)
    throw new Error('no apt-get and dpkg-deb here');
  say(`fetching Debian's ${name}`);
  const place = join(folder, name);
  mkdirSync(place, { recursive: true });
  const fetch = () => {
    const depends = needs ? [...run('apt-cache', ['depends', name]).matchAll(needs)].map(([, library]) => library) : [];
    run('apt-get', ['download', '-q', name, ...depends], place);
  };
  try {
    fetch();
  } catch (error) {
    // A container often has no package lists, and only root can update them.
    if (process.getuid() !== 0) throw error;
    run('apt-get', ['update', '-q']);
    fetch();
  }
  for (const file of readdirSync(place).filter((file) => file.endsWith('.deb'))) run('dpkg-deb', ['-x', file, '.'], place);
  return path;
}
