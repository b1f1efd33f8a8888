// The registry of the tests as a program: prints its address. Arguments: tarballs of this package.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { platformManifest } from '../dist/manifests.mjs';
import { ownTarget, TARGETS } from '../dist/targets.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const { startRegistry } = createRequire(import.meta.url)('../../__tests__/helpers/registry.js');

const repository = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const packed = mkdtempSync(join(tmpdir(), 'ally-registry-'));
for (const name of Object.keys(repository.dependencies)) {
  const folder = join(root, 'node_modules', name);
  execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', packed, folder], { stdio: 'pipe' });
}
const dependencies = readdirSync(packed).map((name) => join(packed, name));
const others = TARGETS.filter(({ suffix }) => suffix !== ownTarget().suffix);
const { url } = await startRegistry(
  [...process.argv.slice(2), ...dependencies],
  others.map((target) => platformManifest(repository, target)),
);
console.log(url);
