// From folders to tarballs: `npm pack` of a staging folder, which has what is published and nothing else.

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addressOf, publishLinks } from './links.mjs';
import { platformManifest, rootManifest } from './manifests.mjs';

export const manifestOf = (root) => JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** The root package, without binaries. Returns the tarball's path. */
export function packRoot(root, out) {
  return pack(out, (staging) => {
    const repository = manifestOf(root);
    const published = rootManifest(repository);
    for (const name of [...published.files, 'README.md', 'LICENSE']) cpSync(join(root, name), join(staging, name), { recursive: true });
    publishLinks(staging, root, addressOf(repository), repository.version);
    return published;
  });
}

/** The package of one platform, with these two binaries. Returns the tarball's path. */
export function packPlatform(root, out, target, { addon, guardian }) {
  return pack(out, (staging) => {
    const repository = manifestOf(root);
    const manifest = platformManifest(repository, target);
    for (const [from, name] of [
      [addon, 'ally.node'],
      [guardian, 'ally-guardian'],
    ]) {
      copyFileSync(from, join(staging, name));
      chmodSync(join(staging, name), 0o755);
    }
    copyFileSync(join(root, 'scripts', 'platform', 'index.js'), join(staging, 'index.js'));
    copyFileSync(join(root, 'LICENSE'), join(staging, 'LICENSE'));
    const text = `The binaries of [${repository.name}](${repository.homepage}) for ${target.suffix}. That package brings this one along.`;
    writeFileSync(join(staging, 'README.md'), `# ${manifest.name}\n\n${text}\n`);
    return manifest;
  });
}

function pack(out, fill) {
  const staging = mkdtempSync(join(tmpdir(), 'ally-dist-'));
  try {
    writeFileSync(join(staging, 'package.json'), `${JSON.stringify(fill(staging), null, 2)}\n`);
    mkdirSync(out, { recursive: true });
    const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', out];
    const { status, stdout, stderr, error } = spawnSync('npm', args, { cwd: staging, encoding: 'utf8' });
    if (error) throw error;
    if (status !== 0) throw new Error(`npm pack failed: ${stderr}`);
    return join(out, nameOf(JSON.parse(stdout)));
  } finally {
    rmSync(staging, { recursive: true });
  }
}

/** npm 11 answers with a list, and npm 12 with an object of packages by name. */
const nameOf = (answer) => Object.values(answer)[0].filename.replace('@', '').replace('/', '-');
