// `npm run msrv`: checks the crates with the oldest Rust that Cargo.toml promises (rust-version). rustup brings it if it can.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fail, run } from './toolchain.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [, oldest] = /^rust-version = "(.+)"$/m.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8'));
const { status } = spawnSync('rustup', ['toolchain', 'install', oldest, '--profile', 'minimal', '--no-self-update'], { stdio: 'inherit' });
if (status !== 0) fail(`Rust ${oldest} can't be had through rustup, so nothing is proven about it.`);
run('cargo', [`+${oldest}`, 'check', '--workspace', '--locked', '--target-dir', join(root, 'target', 'msrv')], { cwd: root });
