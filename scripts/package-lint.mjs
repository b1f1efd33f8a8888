// `npm run lint:package`: publint and are-the-types-wrong, over the tarballs of what is in prebuilt/. Both come into the cache instead of
// devDependencies, because they would bring 44 packages into each clone, of which some want a newer Node.js than a clone does.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmPackages } from './cache.mjs';
import { packPlatform, packRoot } from './dist/pack.mjs';
import { ownTarget } from './dist/targets.mjs';

const TOOLS = { publint: '0.3.25', '@arethetypeswrong/cli': '0.18.5' };

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tools = npmPackages(`package-lint-${Object.values(TOOLS).join('-')}`, TOOLS);
if (!tools) process.exit(1);
const out = mkdtempSync(join(tmpdir(), 'ally-package-'));
try {
  const folder = join(root, 'prebuilt', `${process.platform}-${process.arch}`);
  const binaries = { addon: join(folder, 'ally.node'), guardian: join(folder, 'ally-guardian') };
  const tarballs = [packRoot(root, out), packPlatform(root, out, ownTarget(), binaries)];
  const isClean = [
    ...tarballs.map((tarball) => tool('publint', ['run', tarball, '--strict', '--level', 'suggestion'])),
    // The platform package has no types: nobody but this package requires it.
    tool('attw', [tarballs[0], '--profile', 'strict', '--no-emoji', '--format', 'ascii']),
  ];
  process.exitCode = isClean.every(Boolean) ? 0 : 1;
} finally {
  rmSync(out, { recursive: true });
}

/** publint prints what it has to say and ends with 0, also for suggestions: its words count too. */
function tool(name, args) {
  const { status, stdout, stderr } = spawnSync(join(tools, 'node_modules', '.bin', name), args, { encoding: 'utf8' });
  process.stdout.write(`${stdout}${stderr}`);
  return status === 0 && (name !== 'publint' || stdout.includes('All good!'));
}
