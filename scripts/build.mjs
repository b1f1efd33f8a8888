// Builds the addon and its guardian for this machine, into prebuilt/<platform>-<arch>/, and writes
// native.d.ts. Runs at `npm install` in a clone; an installed package brings both ready-made.

import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileAddon, compileGuardian } from './compile.mjs';
import { hostTarget, isOlder, run, sourcesOf, targetFolder } from './toolchain.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const out = join(root, 'prebuilt', `${process.platform}-${process.arch}`);

// Both for one target, so that what both are made of is compiled once.
const host = hostTarget(root);
const target = targetFolder(root);
mkdirSync(out, { recursive: true });

const before = sourcesOf(root);
const addon = canRunCli() ? buildWithTypes() : compileAddon(root, { triple: host, folder: target });
// Without anything that it would have to find at run time.
const flags = process.platform === 'linux' ? ['-C', 'target-feature=+crt-static'] : [];
const guardian = compileGuardian(root, { triple: host, folder: target, flags });
// Of sources that changed in between, addon and guardian have different build ids, and refuse each other at each start.
if (sourcesOf(root) !== before) {
  console.error('the sources changed during the build, so nothing was installed. Build again');
  process.exit(1);
}
install(addon, 'ally.node');
install(guardian, 'ally-guardian');

/** A rename, so that a process that runs the old one is not disturbed. */
function install(from, name) {
  const to = join(out, name);
  copyFileSync(from, `${to}.new`);
  chmodSync(`${to}.new`, 0o755);
  renameSync(`${to}.new`, to);
}

/** @napi-rs/cli writes native.d.ts. It needs a newer Node.js than this package, and the build does without it. */
function canRunCli() {
  const file = join(root, 'node_modules', '@napi-rs', 'cli', 'package.json');
  if (!existsSync(file)) return skipped('node_modules has no @napi-rs/cli');
  const [, least] = /(\d+\.\d+\.\d+)/.exec(JSON.parse(readFileSync(file, 'utf8')).engines.node);
  return isOlder(process.versions.node, least)
    ? skipped(`@napi-rs/cli needs Node.js ${least}, and this is ${process.versions.node}`)
    : true;
}

function skipped(reason) {
  console.error(`native.d.ts is not written anew: ${reason}`);
  return false;
}

function buildWithTypes() {
  const cli = join(root, 'node_modules', '.bin', 'napi');
  const staging = join(target, 'napi');
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  const args = ['build', '--release', '--platform', '--no-js', '--target', host, '--target-dir', target, '--output-dir', staging];
  run(cli, [...args, '--dts', 'native.d.ts', '--no-dts-cache', '--', '--lib'], { cwd: root });
  copyFileSync(join(staging, 'native.d.ts'), join(root, 'native.d.ts'));
  return join(
    staging,
    readdirSync(staging).find((name) => name.endsWith('.node')),
  );
}
