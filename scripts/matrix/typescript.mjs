// The types under each minor version of TypeScript, in each way to find modules, with `skipLibCheck` off.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmPackages } from '../cache.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const VERSIONS = ['5.0', '5.1', '5.2', '5.3', '5.4', '5.5', '5.6', '5.7', '5.8', '5.9', '6.0', '7.0'];
const isOlder = (version, than) => version.localeCompare(than, 'en', { numeric: true }) < 0;

/** `before`, `since`: versions that have it. `files`: what decides between CommonJS and ES module where `module` does not. */
const BOTH = ['consumer.cts', 'consumer.mts'];
const MODES = [
  { name: 'commonjs, node10', module: 'commonjs', moduleResolution: 'node10', files: ['consumer.ts'], before: '6.0' },
  { name: 'node16', module: 'node16', moduleResolution: 'node16', files: BOTH },
  { name: 'nodenext', module: 'nodenext', moduleResolution: 'nodenext', files: BOTH },
  { name: 'esnext, bundler', module: 'esnext', moduleResolution: 'bundler', files: ['consumer.ts'] },
  { name: 'preserve, bundler', module: 'preserve', moduleResolution: 'bundler', files: ['consumer.ts'], since: '5.4' },
];

/** Yields each version, with the modes that were tried, and a problem if there is one. */
export function* tryTypeScript(app, only = '') {
  for (const version of VERSIONS.filter((each) => each.includes(only))) {
    const name = `TypeScript ${version}`;
    const home = npmPackages(`typescript-${version}`, { typescript: version, '@types/node': '18' });
    if (!home) {
      yield { name, modes: [], problem: 'not to be had' };
      continue;
    }
    const modes = MODES.filter(({ since = '0', before = '99' }) => !isOlder(version, since) && isOlder(version, before));
    const problems = modes.map((mode) => problemOf(version, home, app, mode)).filter(Boolean);
    yield { name, modes: modes.map((mode) => mode.name), problem: problems.join('\n') || undefined };
  }
}

function problemOf(version, home, app, { name, module, moduleResolution, files }) {
  const folder = join(app, `typescript-${version}-${name.replaceAll(/\W+/g, '-')}`);
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  for (const each of ['@types', 'undici-types']) symlinkSync(join(home, 'node_modules', each), join(folder, 'node_modules', each));
  for (const file of files) cpSync(join(here, 'typescript', 'consumer.txt'), join(folder, file));
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
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const tsc = join(home, 'node_modules', '.bin', 'tsc');
  const { status, stdout, stderr } = spawnSync(tsc, ['-p', folder], { encoding: 'utf8' });
  return status === 0 ? undefined : `${name}: ${stdout}${stderr}`;
}
