// `npm run dist`: builds, and writes dist/*.tgz: the root package and the package of this machine's platform.
//   --target NAME   of another platform (linux-arm64-musl); can be given more than once
//   --prebuilt      build nothing: pack what is in prebuilt/
//   --no-zig        link for this machine's glibc
//   --strict        fail if a binary does not run on the oldest promised system, instead of saying so
//   --out FOLDER    another folder than dist/

import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildBinaries } from './dist/build.mjs';
import { packPlatform, packRoot } from './dist/pack.mjs';
import { problemsOf } from './dist/symbols.mjs';
import { ownTarget, targetOf } from './dist/targets.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: options } = parseArgs({
  options: {
    target: { type: 'string', multiple: true, default: [] },
    prebuilt: { type: 'boolean' },
    'no-zig': { type: 'boolean' },
    strict: { type: 'boolean' },
    out: { type: 'string', default: join(root, 'dist') },
  },
});
const out = resolve(options.out);
const targets = options.target.length > 0 ? options.target.map(targetOf) : [ownTarget()];

mkdirSync(out, { recursive: true });
// What an earlier run left would be tested and published with the rest.
for (const name of readdirSync(out).filter((each) => each.endsWith('.tgz'))) rmSync(join(out, name));
const tarballs = [packRoot(root, out)];
let isFit = true;
for (const target of targets) {
  const binaries = options.prebuilt ? prebuilt(target) : buildBinaries(root, target, { zig: !options['no-zig'] });
  for (const problem of problemsOf(target, binaries)) {
    isFit = false;
    console.error(`${target.suffix}: ${problem}`);
  }
  tarballs.push(packPlatform(root, out, target, binaries));
}
for (const tarball of tarballs) console.log(`${tarball}  ${(statSync(tarball).size / 1024).toFixed(0)} KiB`);
if (!isFit && options.strict) process.exit(1);

function prebuilt({ os, cpu }) {
  const folder = join(root, 'prebuilt', `${os}-${cpu}`);
  return { addon: join(folder, 'ally.node'), guardian: join(folder, 'ally-guardian') };
}
