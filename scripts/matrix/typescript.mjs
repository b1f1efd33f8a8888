// The types under each minor version of TypeScript, in each way to find modules, with `skipLibCheck` off.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmPackages } from '../cache.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const VERSIONS = ['5.0', '5.1', '5.2', '5.3', '5.4', '5.5', '5.6', '5.7', '5.8', '5.9', '6.0', '7.0'];
const isOlder = (version, than) => version.localeCompare(than, 'en', { numeric: true }) < 0;

/** `before`, `since`: versions that have it. `file`: what decides between CommonJS and ES module where `module` does not. */
const MODES = [
  { name: 'commonjs, node10', module: 'commonjs', moduleResolution: 'node10', file: 'consumer.ts', before: '6.0' },
  { name: 'node16, .cts', module: 'node16', moduleResolution: 'node16', file: 'consumer.cts' },
  { name: 'node16, .mts', module: 'node16', moduleResolution: 'node16', file: 'consumer.mts' },
  { name: 'nodenext, .cts', module: 'nodenext', moduleResolution: 'nodenext', file: 'consumer.cts' },
  { name: 'nodenext, .mts', module: 'nodenext', moduleResolution: 'nodenext', file: 'consumer.mts' },
  { name: 'esnext, bundler', module: 'esnext', moduleResolution: 'bundler', file: 'consumer.ts' },
  { name: 'preserve, bundler', module: 'preserve', moduleResolution: 'bundler', file: 'consumer.ts', since: '5.4' },
];

/** Returns each version, with the modes that were tried, and a problem if there is one. */
export function tryTypeScript(app) {
  return VERSIONS.map((version) => {
    const home = npmPackages(`typescript-${version}`, { typescript: version, '@types/node': '18' });
    if (!home) return { name: `TypeScript ${version}`, modes: [], problem: 'not to be had' };
    const modes = MODES.filter(({ since = '0', before = '99' }) => !isOlder(version, since) && isOlder(version, before));
    const problems = modes.map((mode) => problemOf(version, home, app, mode)).filter(Boolean);
    return { name: `TypeScript ${version}`, modes: modes.map(({ name }) => name), problem: problems.join('\n') || undefined };
  });
}

function problemOf(version, home, app, { name, module, moduleResolution, file }) {
  const folder = join(app, `typescript-${version}-${name.replaceAll(/\W+/g, '-')}`);
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  for (const each of ['@types', 'undici-types']) symlinkSync(join(home, 'node_modules', each), join(folder, 'node_modules', each));
  cpSync(join(here, 'typescript', 'consumer.txt'), join(folder, file));
  const compilerOptions = {
    module,
    moduleResolution,
    target: 'es2022',
    lib: ['es2022'],
    types: ['node'],
    strict: true,
    noEmit: true,
    skipLibCheck: false,
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }));
  const tsc = join(home, 'node_modules', '.bin', 'tsc');
  const { status, stdout, stderr } = spawnSync(tsc, ['-p', folder], { encoding: 'utf8' });
  return status === 0 ? undefined : `${name}: ${stdout}${stderr}`;
}
