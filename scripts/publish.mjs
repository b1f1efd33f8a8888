// Publishes the tarballs of a release: those of the platforms first, so that the root never names a package that is missing. A package
// that the registry has already is passed over, so a publication that was interrupted can be repeated.
//   --tarballs FOLDER   where they are; the default is dist/
//   --dry-run           everything but the publication
//   --partial           not all platforms need to be there: for a rehearsal on one machine
//   --tag NAME          the tag of the release in git; it must fit the version

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { packageOf, TARGETS } from './dist/targets.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: options } = parseArgs({
  options: {
    tarballs: { type: 'string', default: join(root, 'dist') },
    'dry-run': { type: 'boolean' },
    partial: { type: 'boolean' },
    tag: { type: 'string' },
  },
});
const { name, version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const folder = resolve(options.tarballs);
const tarballs = readdirSync(folder)
  .filter((each) => each.endsWith('.tgz'))
  .map((each) => ({ file: join(folder, each), manifest: manifestOf(join(folder, each)) }));

const problems = [...namesAndVersions(), ...changelog()];
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
for (const each of [...tarballs.filter((one) => !isRoot(one)), ...tarballs.filter(isRoot)]) publish(each);

function manifestOf(file) {
  const { status, stdout, stderr } = spawnSync('tar', ['-xzOf', file, 'package/package.json'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${file}: ${stderr}`);
  return JSON.parse(stdout);
}

function isRoot({ manifest }) {
  return manifest.name === name;
}

function* namesAndVersions() {
  const wanted = [name, ...TARGETS.map((target) => packageOf(name, target))];
  const found = tarballs.map(({ manifest }) => manifest.name);
  if (!found.includes(name)) yield `${folder} has no tarball of ${name}`;
  if (!options.partial)
    for (const each of wanted.filter((one) => one !== name && !found.includes(one))) yield `${folder} has no tarball of ${each}`;
  for (const { file, manifest } of tarballs) {
    if (!wanted.includes(manifest.name)) yield `${file}: ${manifest.name} is no package of this project`;
    if (manifest.version !== version) yield `${file}: version ${manifest.version}, and the release is ${version}`;
  }
  if (options.tag !== undefined && options.tag !== `v${version}`) yield `the tag is ${options.tag}, and the release is v${version}`;
}

/** A release has a heading with its date. A rehearsal may come before it has one. */
function* changelog() {
  const [, heading] =
    new RegExp(`^## ${version.replaceAll('.', '\\.')}(.*)$`, 'm').exec(readFileSync(join(root, 'CHANGELOG.md'), 'utf8')) ?? [];
  if (heading === undefined) yield `CHANGELOG.md has no heading for ${version}`;
  else if (!options['dry-run'] && !/\d{4}-\d\d-\d\d/.test(heading)) yield `CHANGELOG.md has no date for ${version}`;
}

function publish({ file, manifest }) {
  const id = `${manifest.name}@${manifest.version}`;
  if (isPublished(id)) return console.log(`${id} is published already`);
  // A version such as 1.0.0-rc.1 must not become what `npm install` takes.
  const tag = version.includes('-') ? 'next' : 'latest';
  const args = ['publish', file, '--access', 'public', '--tag', tag, '--ignore-scripts'];
  // Provenance needs the identity of a workflow, which a rehearsal elsewhere has not.
  if (options['dry-run']) args.push('--dry-run');
  else if (process.env.ACTIONS_ID_TOKEN_REQUEST_URL) args.push('--provenance');
  const { status } = spawnSync('npm', args, { stdio: 'inherit' });
  if (status !== 0) throw new Error(`${id} could not be published`);
}

function isPublished(id) {
  if (options['dry-run']) return false;
  const { status, stdout } = spawnSync('npm', ['view', id, 'version'], { encoding: 'utf8' });
  return status === 0 && stdout.trim() === version;
}
