// The version stands in several files, because reading package.json at each load would cost time. `npm version X.Y.Z` runs this
// script, which writes the new one into all of them. `--check`: compares them.

import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** Of each file, what stands before a version, the version, and what stands after it. */
const PLACES = [
  ['native.js', /(const VERSION = ')([^']+)(')/g],
  ['scripts/platform/index.js', /(version: ')([^']+)(')/g],
  ['Cargo.toml', /(\[workspace\.package\]\nversion = ")([^"]+)(")/g],
  ['Cargo.lock', /(\[\[package\]\]\nname = "ally-[a-z-]+"\nversion = ")([^"]+)(")/g],
  ['fuzz/Cargo.lock', /(\[\[package\]\]\nname = "ally-(?:base|build-id|core|guardian|log)"\nversion = ")([^"]+)(")/g],
];

const differing = [];
for (const [name, pattern] of PLACES) {
  const file = join(root, name);
  const before = readFileSync(file, 'utf8');
  const found = [...before.matchAll(pattern)].map(([, , each]) => each);
  if (found.length === 0) throw new Error(`${name}: no version found`);
  differing.push(...found.filter((each) => each !== version).map((each) => `${name} has version ${each}, and package.json ${version}`));
  if (!process.argv.includes('--check')) writeFileSync(file, before.replace(pattern, `$1${version}$3`));
}
if (process.argv.includes('--check')) {
  for (const line of differing) console.error(line);
  if (differing.length > 0) process.exit(1);
}
