// Package managers that install the tarballs from a registry on the loopback address, where each platform has a package.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmPackages } from '../cache.mjs';
import { runtime, scenario } from './runtimes.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const NAME = '@ally/background-process-manager';

/** `settings`: the file that names the registry. `run`: what runs a script, where that is not Node.js alone. */
const yarn = (nodeLinker) => ({
  name: `Yarn 4, ${nodeLinker}`,
  from: ['@yarnpkg/cli-dist', '4'],
  bin: 'bin/yarn.js',
  args: ['add', NAME],
  // A package of today is in quarantine by default.
  settings: (url) => [
    '.yarnrc.yml',
    `npmRegistryServer: "${url}"\nunsafeHttpWhitelist: ["127.0.0.1"]\nenableTelemetry: false\nenableGlobalCache: false\nnpmMinimalAgeGate: 0\nnodeLinker: ${nodeLinker}\n`,
  ],
  runs: nodeLinker === 'pnp' ? ['node'] : undefined,
});
const npmrc = (url) => ['.npmrc', `registry=${url}\nignore-scripts=true\naudit=false\nfund=false\n`];
const MANAGERS = [
  { name: 'npm 10', from: ['npm', '10'], bin: 'bin/npm-cli.js', args: ['install', NAME], settings: npmrc },
  { name: 'npm 11', from: ['npm', '11'], bin: 'bin/npm-cli.js', args: ['install', NAME], settings: npmrc },
  { name: 'pnpm 10', from: ['pnpm', '10'], bin: 'bin/pnpm.cjs', args: ['add', NAME], settings: npmrc },
  yarn('node-modules'),
  yarn('pnp'),
  { name: 'Bun 1', bun: true, args: ['add', NAME], settings: (url) => ['bunfig.toml', `[install]\nregistry = "${url}"\n`] },
];

/** `tarballs`: of the root and of this platform. Yields the name of each package manager, with a problem if there is one. */
export async function* tryManagers(tarballs, only = '') {
  const registry = spawn(process.execPath, [join(here, 'registry.mjs'), ...tarballs], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [url] = await once(registry.stdout, 'data');
    for (const manager of MANAGERS.filter(({ name }) => name.includes(only)))
      yield { name: manager.name, problem: problemOf(manager, String(url).trim()) };
  } finally {
    registry.kill();
  }
}

function problemOf({ from, bin, bun, args, settings, runs }, url) {
  const home = from && npmPackages(from.join('-').replaceAll('/', '-'), { [from[0]]: from[1] });
  const program = bun ? runtime('Bun 1') : home && join(home, 'node_modules', from[0], bin);
  if (!program) return 'not to be had';
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'ally-install-')));
  const app = join(folder, 'app');
  // Settings and stores of the user's own have no say.
  const env = { ...process.env, HOME: folder, XDG_CACHE_HOME: join(folder, 'cache'), XDG_DATA_HOME: join(folder, 'data') };
  const command = bun ? [program] : [process.execPath, program];
  try {
    mkdirSync(app);
    writeFileSync(join(app, 'package.json'), '{ "name": "app", "private": true }');
    // Yarn takes the folder for a project of its own only with a lockfile.
    if (from?.[0] === '@yarnpkg/cli-dist') writeFileSync(join(app, 'yarn.lock'), '');
    const [name, text] = settings(url);
    writeFileSync(join(app, name), text);
    const { status, stdout, stderr } = spawnSync(command[0], [...command.slice(1), ...args], { cwd: app, env, encoding: 'utf8' });
    if (status !== 0) return `it ends with ${status}\n${stdout}${stderr}`;
    const [first, ...rest] = runs ? [...command, ...runs] : [process.execPath];
    return scenario({ program: first, run: rest, env }, app).problem;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
