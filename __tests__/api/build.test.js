'use strict';

// scripts/build.mjs in a copy of the repository's root, with programs in place of cargo and rustc.

const fs = require('node:fs');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { ROOT } = require('../helpers/needs');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const HOST = 'test-unknown-machine';
const library = `libally_background_process_manager.${process.platform === 'darwin' ? 'dylib' : 'so'}`;

/** The programs that a build finds in PATH, besides those of `text`: nothing. */
function build(programs, env) {
  const bin = world.path('bin');
  const root = world.path('clone');
  fs.mkdirSync(bin);
  fs.cpSync(path.join(ROOT, 'scripts'), path.join(root, 'scripts'), { recursive: true });
  fs.copyFileSync(path.join(ROOT, 'Cargo.toml'), path.join(root, 'Cargo.toml'));
  for (const [name, text] of Object.entries(programs))
    fs.writeFileSync(path.join(bin, name), `#!/bin/sh\nPATH=/usr/bin:/bin\n${text}\n`, { mode: 0o755 });
  const { status, stderr } = spawnSync(process.execPath, [path.join(root, 'scripts', 'build.mjs')], {
    env: { PATH: bin, ...env },
    encoding: 'utf8',
  });
  const prebuilt = path.join(root, 'prebuilt', `${process.platform}-${process.arch}`);
  const read = (name) => fs.readFileSync(path.join(prebuilt, name), 'utf8');
  return { status, stderr, prebuilt, read };
}

const rustc = (version) => `printf 'rustc ${version}\\nhost: ${HOST}\\nrelease: ${version}\\n'`;
/** Cargo's answer names the folder; a build puts both files there. */
const cargo = (folder) => `case $1 in
  metadata) printf '{"target_directory":"%s"}' "${folder}" ;;
  build) mkdir -p "${folder}/${HOST}/release"; echo addon > "${folder}/${HOST}/release/${library}" ;;
  rustc) echo guardian > "${folder}/${HOST}/release/ally-guardian" ;;
esac`;
const whole = () => ({ rustc: rustc('1.99.0'), cargo: cargo('$CARGO_TARGET_DIR'), cc: '' });

test('build: without node_modules, both files come from the folder that cargo names (CARGO_TARGET_DIR, build.target-dir)', () => {
  const { status, stderr, read, prebuilt } = build(whole(), { CARGO_TARGET_DIR: world.path('elsewhere') });
  expect({ status, stderr }).toEqual({ status: 0, stderr: 'native.d.ts is not written anew: node_modules has no @napi-rs/cli\n' });
  expect([read('ally.node'), read('ally-guardian')]).toEqual(['addon\n', 'guardian\n']);
  expect(fs.readdirSync(prebuilt).sort()).toEqual(['ally-guardian', 'ally.node']);
  expect(fs.statSync(path.join(prebuilt, 'ally-guardian')).mode & 0o777).toBe(0o755);
});

test('build: a Node.js that is too old for @napi-rs/cli calls cargo alone', () => {
  const cli = world.path('clone', 'node_modules', '@napi-rs', 'cli');
  fs.mkdirSync(cli, { recursive: true });
  fs.writeFileSync(path.join(cli, 'package.json'), '{ "engines": { "node": "^999.17.0 || >= 1000.5.0" } }');
  const { status, stderr, read } = build(whole(), { CARGO_TARGET_DIR: world.path('elsewhere') });
  expect(status).toBe(0);
  expect(stderr).toBe(`native.d.ts is not written anew: @napi-rs/cli needs Node.js 999.17.0, and this is ${process.versions.node}\n`);
  expect(read('ally.node')).toBe('addon\n');
});

test.each([
  ['cargo', { cargo: undefined }, 'cargo is needed to build the addon and was not found. Install Rust from https://rustup.rs'],
  ['rustc', { rustc: undefined }, 'rustc is needed to build the addon and was not found. Install Rust from https://rustup.rs'],
  [
    'a newer rustc',
    { rustc: rustc('1.8.0') },
    'rustc 1.89 or later is needed to build the addon, and this is 1.8.0. Run `rustup update stable`',
  ],
  ['a toolchain behind rustup', { rustc: 'exit 1' }, 'Try `rustup default stable`'],
  [
    'a linker',
    { cc: undefined, cargo: `[ "$1" = build ] && exit 101\n${cargo('/nonexistent')}` },
    'cc was not found: cargo needs a C compiler',
  ],
])('build: what is missing is named: %s', (_, changes, words) => {
  const programs = Object.entries({ ...whole(), ...changes }).filter(([, text]) => text !== undefined);
  const { status, stderr, prebuilt } = build(Object.fromEntries(programs), { CARGO_TARGET_DIR: world.path('elsewhere') });
  expect(status).toBeGreaterThan(0);
  expect(stderr).toContain(words);
  expect(fs.existsSync(path.join(prebuilt, 'ally.node'))).toBe(false);
});
