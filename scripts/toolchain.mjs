// What a build needs of the machine. Whatever is missing is named as what it is, before or after cargo's own words.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

const RUSTUP = 'Install Rust from https://rustup.rs, open a new shell and try again.';

export function fail(message) {
  console.error(`\n${message}`);
  process.exit(1);
}

/** The output of a program, or undefined if it is not there or fails. */
function outputOf(command, args, options) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', ...options });
  return status === 0 ? stdout : undefined;
}

const isMissing = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).error?.code === 'ENOENT';

/** The target of this machine, by rustc's word. Ends the build if cargo or rustc is missing or too old. */
export function hostTarget(root) {
  for (const tool of ['cargo', 'rustc']) if (isMissing(tool)) fail(`${tool} is needed to build the addon and was not found. ${RUSTUP}`);
  const about = outputOf('rustc', ['-vV'], { cwd: root });
  const [, host] = /^host: (.+)$/m.exec(about ?? '') ?? [];
  const [, version] = /^release: (\d+\.\d+\.\d+)/m.exec(about ?? '') ?? [];
  // With rustup, rustc can be a stand-in without a toolchain behind it.
  if (!host || !version) fail(`rustc does not run: \`rustc -vV\` says nothing of a host. Try \`rustup default stable\`.`);
  const [, wanted] = /^rust-version = "(.+)"$/m.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8'));
  if (isOlder(version, wanted))
    fail(`rustc ${wanted} or later is needed to build the addon, and this is ${version}. Run \`rustup update stable\`.`);
  return host;
}

export const isOlder = (version, wanted) => version.localeCompare(wanted, 'en', { numeric: true }) < 0;

/** Where cargo builds: CARGO_TARGET_DIR and `build.target-dir` of a cargo configuration are in its answer. */
export function targetFolder(root) {
  const metadata = outputOf('cargo', ['metadata', '--format-version', '1', '--no-deps'], { cwd: root, maxBuffer: 2 ** 26 });
  if (metadata === undefined) fail('`cargo metadata` fails in this folder: see its words with `cargo metadata --no-deps`.');
  return JSON.parse(metadata).target_directory;
}

/** What both binaries are built from, with the time of its last change. */
export function sourcesOf(root) {
  const inside = ['src', 'crates']
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name)));
  const all = [...inside.filter((name) => /\.(rs|toml)$/.test(name)), 'Cargo.toml', 'Cargo.lock', 'build.rs'];
  return all.map((name) => `${name} ${statSync(join(root, name), { throwIfNoEntry: false })?.mtimeMs}`).join('\n');
}

/** Runs a command of the build. Ends the build, with a hint, if it fails. */
export function run(command, args, options) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', ...options });
  if (error) fail(`${command} can't be run: ${error.message}`);
  if (status === 0) return;
  if (isMissing('cc')) console.error('\ncc was not found: cargo needs a C compiler as its linker. Debian: apt-get install gcc libc6-dev');
  process.exit(status ?? 1);
}
