// The published package.json of the root and of a platform package.

import { packageOf, TARGETS } from './targets.mjs';

/** What the repository alone needs: a published package builds nothing, and its platform packages say where it runs. */
const REPOSITORY_ONLY = ['scripts', 'devDependencies', 'os', 'cpu'];

export function rootManifest(repository) {
  const published = Object.fromEntries(Object.entries(repository).filter(([key]) => !REPOSITORY_ONLY.includes(key)));
  published.files = repository.files.filter((name) => name !== 'prebuilt');
  // Of exactly this version: addon and JavaScript layer are made for each other.
  published.optionalDependencies = Object.fromEntries(TARGETS.map((target) => [packageOf(repository.name, target), repository.version]));
  return published;
}

export function platformManifest(repository, target) {
  const { name, version, license, engines, repository: source, homepage, bugs } = repository;
  const { suffix, os, cpu, libc } = target;
  return {
    name: packageOf(name, target),
    version,
    description: `The binaries of ${name} for ${suffix}`,
    license,
    repository: source,
    homepage,
    bugs,
    type: 'commonjs',
    main: 'index.js',
    files: ['index.js', 'ally.node', 'ally-guardian'],
    os: [os],
    cpu: [cpu],
    ...(libc && { libc: [libc] }),
    engines,
    // Yarn must not leave an executable in a zip archive.
    preferUnplugged: true,
    // pnpm publishes other files without their executable bit.
    publishConfig: { ...repository.publishConfig, executableFiles: ['./ally-guardian'] },
  };
}
