// Builds the addon and its guardian for this machine, into prebuilt/<platform>-<arch>/, and writes
// native.d.ts. Runs at `npm install` in a clone; an installed package brings both ready-made.

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const out = join(root, 'prebuilt', `${process.platform}-${process.arch}`);

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  if (error?.code === 'ENOENT') {
    console.error(`\n${command} is needed to build the addon and was not found. Install Rust from https://rustup.rs and try again.`);
    process.exit(1);
  }
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** A rename, so that a process that runs the old one is not disturbed. */
function install(from, name) {
  const to = join(out, name);
  copyFileSync(from, `${to}.new`);
  chmodSync(`${to}.new`, 0o755);
  renameSync(`${to}.new`, to);
}

/** What both programs are built from, with the time of its last change. */
function sources() {
  const inside = ['src', 'crates'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name)),
  );
  const all = [...inside.filter((name) => /\.(rs|toml)$/.test(name)), 'Cargo.toml', 'Cargo.lock', 'build.rs'];
  return all.map((name) => `${name} ${statSync(join(root, name)).mtimeMs}`).join('\n');
}

const cli = join(root, 'node_modules', '.bin', 'napi');
const staging = join(root, 'target', 'napi');
const built = sources();
rmSync(staging, { recursive: true, force: true });
mkdirSync(staging, { recursive: true });
mkdirSync(out, { recursive: true });

// The addon, and the types of its exports.
run(cli, ['build', '--release', '--platform', '--no-js', '--output-dir', staging, '--dts', 'native.d.ts', '--no-dts-cache', '--', '--lib']);
// The guardian, without anything that it would have to find at run time. For the same target as the
// addon, so that what both are made of is compiled once.
const host = /^host: (.+)$/m.exec(spawnSync('rustc', ['-vV'], { encoding: 'utf8' }).stdout)[1];
const flags = process.platform === 'linux' ? ['-C', 'target-feature=+crt-static'] : [];
run('cargo', ['rustc', '--release', '--package', 'ally-guardian', '--target', host, '--bin', 'ally-guardian', '--', ...flags]);

// Of sources that changed in between, addon and guardian have different build ids, and refuse each other at each start.
if (sources() !== built) {
  console.error('the sources changed during the build, so nothing was installed. Build again');
  process.exit(1);
}
const library = readdirSync(staging).find((name) => name.endsWith('.node'));
if (!library) {
  console.error('the build made no addon');
  process.exit(1);
}
install(join(staging, library), 'ally.node');
install(join(root, 'target', host, 'release', 'ally-guardian'), 'ally-guardian');
copyFileSync(join(staging, 'native.d.ts'), join(root, 'native.d.ts'));
