// `npm run matrix`: installs the tarballs of dist/ into empty folders, and tries them under other runtimes, test runners and versions of
// TypeScript, which npm brings into a cache outside the repository. Prints the tables of docs/platforms.md.
//   runtimes | managers | bundlers | runners | typescript   only these parts
//   --only NAME         of each part only what has this text in its name
//   --here              the scenario under the Node.js that runs this script, without downloads
//   --root FOLDER       the runtimes in this root folder, which debootstrap has made: with an older C library. Needs root
//   --tarballs FOLDER   another folder than dist/

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ownTarget } from './dist/targets.mjs';
import { tryBundlers } from './matrix/bundlers.mjs';
import { tryManagers } from './matrix/managers.mjs';
import { tryRunners } from './matrix/runners.mjs';
import { fromRegistry, running, STEPS, scenario, scenarioInRoot, versionOf } from './matrix/runtimes.mjs';
import { tryTypeScript } from './matrix/typescript.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    here: { type: 'boolean' },
    only: { type: 'string' },
    root: { type: 'string' },
    tarballs: { type: 'string', default: join(root, 'dist') },
  },
});
const parts = { runtimes, managers, bundlers, runners, typescript };
const chosen = options.here ? ['runtimes'] : positionals.length > 0 ? positionals : Object.keys(parts);
const tarballs = resolve(options.tarballs);
const problems = [];
/** The folder of each platform's installation. */
const apps = new Map();
try {
  if (!installed()) throw new Error(`${tarballs} has not the root's tarball and that of ${ownTarget().suffix}. Run \`npm run dist\` first`);
  for (const name of chosen) await parts[name]();
} finally {
  for (const app of apps.values()) rmSync(app, { recursive: true, force: true });
}
for (const problem of problems) console.error(`\n${problem}`);
console.log(problems.length === 0 ? '\nthe matrix holds' : `\n${problems.length} of the matrix failed`);
process.exit(problems.length === 0 ? 0 : 1);

/** A folder with the package, as npm installs it from tarballs on `target`. Undefined, if there is no tarball for it. */
function installed(target = ownTarget()) {
  if (!apps.has(target.suffix)) {
    const files = tarballsFor(target);
    if (!files) return undefined;
    apps.set(target.suffix, install(files, target));
  }
  return apps.get(target.suffix);
}

function tarballsFor({ suffix }) {
  const names = existsSync(tarballs) ? readdirSync(tarballs) : [];
  const patterns = [/-manager-\d[^/]*\.tgz$/, new RegExp(`-${suffix}-\\d[^/]*\\.tgz$`)];
  const found = patterns.map((pattern) => names.find((name) => pattern.test(name)));
  return found.includes(undefined) ? undefined : found.map((name) => join(tarballs, name));
}

function install(files, { os, cpu, libc }) {
  const empty = realpathSync(mkdtempSync(join(tmpdir(), 'ally-matrix-')));
  writeFileSync(join(empty, 'package.json'), '{ "private": true }');
  const platform = [`--os=${os}`, `--cpu=${cpu}`, ...(libc ? [`--libc=${libc}`] : [])];
  const args = ['install', ...platform, '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error', ...files];
  const { status } = spawnSync('npm', args, { cwd: empty, stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) throw new Error('npm could not install the tarballs');
  return empty;
}

function attempt(runtime, app) {
  return options.root ? scenarioInRoot(resolve(options.root), runtime, app) : scenario(runtime, app);
}

async function runtimes() {
  await table(['runtime', 'version', 'steps that hold'], function* () {
    for (const runtime of options.here ? running() : fromRegistry(options.only)) {
      const app = installed(runtime.target);
      if (!app) {
        console.error(`${runtime.name} is not tried: there is no tarball of ${runtime.target.suffix}`);
        continue;
      }
      const { held, problem } = runtime.program ? attempt(runtime, app) : { held: [], problem: 'not to be had' };
      if (problem) problems.push(`${runtime.name}: ${problem}`);
      const version = runtime.program ? versionOf(runtime.program) : '-';
      yield [runtime.name, version, `${held.length} of ${STEPS.length}`];
    }
  });
}

async function managers() {
  await table(['package manager', 'result'], async function* () {
    for await (const { name, problem } of tryManagers(tarballsFor(ownTarget()), options.only)) yield [name, result(name, problem)];
  });
}

async function bundlers() {
  await table(['bundler', 'what is tried', 'result'], function* () {
    for (const { name, version, promise, problem } of tryBundlers(installed(), options.only))
      yield [version ? `${name} ${version}` : name, promise, result(`${name}, ${promise}`, problem)];
  });
}

async function runners() {
  await table(['test runner', 'result'], function* () {
    for (const { name, problem } of tryRunners(installed(), options.only)) yield [name, result(name, problem)];
  });
}

async function typescript() {
  await table(['compiler', 'modes', 'result'], function* () {
    for (const { name, modes, problem } of tryTypeScript(installed(), options.only)) yield [name, modes.join('; '), result(name, problem)];
  });
}

function result(name, problem) {
  if (problem) problems.push(`${name}: ${problem}`);
  return problem ? 'no' : 'yes';
}

/** Each row as soon as it is known. */
async function table(head, rows) {
  const line = (cells) => console.log(`| ${cells.join(' | ')} |`);
  console.log('');
  line(head);
  line(head.map(() => '---'));
  for await (const row of rows()) line(row);
}
