// Tracers, bundlers and single-file programs over an installed package: each does what docs/platforms.md says of it.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmPackages } from '../cache.mjs';
import { ownTarget, packageOf } from '../dist/targets.mjs';
import { runScenario, runtime } from './runtimes.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const NAME = '@ally/background-process-manager';
const NODE = 'Node.js 24';
const TOOLS = { '@vercel/nft': '1', '@vercel/ncc': '0.45', esbuild: '0.28', webpack: '5', postject: '1.0.0-alpha.6' };
const ADDON = 'ally.node';

/** `tool`: whose version is shown. `try`: returns a problem, or undefined. */
const TRIALS = [
  { name: '@vercel/nft', tool: '@vercel/nft', promise: 'the listed files run alone', try: traced },
  { name: '@vercel/ncc', tool: '@vercel/ncc', promise: 'the bundle runs alone', try: nccBundle },
  { name: 'esbuild', tool: 'esbuild', promise: 'fails by name', try: (place) => refused(esbuild(place), ADDON) },
  { name: 'esbuild', tool: 'esbuild', promise: 'external: the bundle runs beside node_modules', try: (place) => external(place, esbuild) },
  { name: 'webpack', tool: 'webpack', promise: 'fails by name', try: (place) => refused(webpack(place), ADDON) },
  { name: 'webpack', tool: 'webpack', promise: 'external: the bundle runs beside node_modules', try: (place) => external(place, webpack) },
  { name: 'Bun, build', promise: 'external: the bundle runs beside node_modules', try: (place) => external(place, bunBuild) },
  { name: 'Bun, build', promise: 'the bundle runs alone, with guardianPath', try: bunBundle },
  { name: `SEA of ${NODE}`, promise: 'one file, with both binaries beside it', try: singleExecutable },
  { name: 'Bun, build --compile', promise: 'one file, with the guardian beside it', try: bunCompile },
];

/** `app`: a folder where the package is installed. */
export function* tryBundlers(app, only = '') {
  const tools = npmPackages('bundlers', TOOLS);
  for (const { name, tool, promise, try: attempt } of TRIALS.filter((each) => each.name.includes(only)))
    yield {
      name,
      version: tool && tools && versionIn(tools, tool),
      promise,
      problem: tools ? inPlace(app, tools, attempt) : 'not to be had',
    };
}

const versionIn = (tools, name) => JSON.parse(readFileSync(join(tools, 'node_modules', name, 'package.json'), 'utf8')).version;

/** `app`: the sources; `out`: an empty folder without node_modules above it. */
function inPlace(app, tools, attempt) {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'ally-bundle-')));
  try {
    const place = { app: join(folder, 'app'), out: join(folder, 'out'), tools };
    cpSync(app, place.app, { recursive: true, verbatimSymlinks: true });
    mkdirSync(place.out);
    copyFileSync(join(here, 'scenario.cjs'), join(place.app, 'main.cjs'));
    return attempt(place);
  } catch (error) {
    return error.stack;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function command(program, args, cwd) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd, encoding: 'utf8', timeout: 120_000 });
  return { succeeded: status === 0, text: `${error?.message ?? ''}${stdout}${stderr}` };
}
const nodeTool = ({ app, tools }, file, args) => command(process.execPath, [join(tools, 'node_modules', file), ...args], app);

const refused = ({ succeeded, text }, name) => {
  if (succeeded) return 'it does not fail';
  return text.includes(name) ? undefined : `it does not name ${name}:\n${text}`;
};
const run = (folder, file) => runScenario(runtime(NODE), [file], folder).problem;

function traced(place) {
  const { app, out, tools } = place;
  const list = join(app, 'list.mjs');
  const source = `
    import { nodeFileTrace } from ${JSON.stringify(join(tools, 'node_modules/@vercel/nft/out/index.js'))};
    const { fileList } = await nodeFileTrace(['main.cjs'], { base: process.cwd() });
    console.log(JSON.stringify([...fileList]));`;
  writeFileSync(list, source);
  const { succeeded, text } = command(process.execPath, [list], app);
  if (!succeeded) return text;
  for (const name of JSON.parse(text)) {
    mkdirSync(dirname(join(out, name)), { recursive: true });
    cpSync(join(app, name), join(out, name));
  }
  return run(out, 'main.cjs');
}

function nccBundle(place) {
  const { succeeded, text } = nodeTool(place, '@vercel/ncc/dist/ncc/cli.js', ['build', 'main.cjs', '--out', place.out]);
  return succeeded ? run(place.out, existsSync(join(place.out, 'index.cjs')) ? 'index.cjs' : 'index.js') : text;
}

function esbuild(place, { external: isExternal } = {}) {
  const args = ['main.cjs', '--bundle', '--platform=node', '--outfile=bundle.cjs', ...(isExternal ? [`--external:${NAME}`] : [])];
  return command(join(place.tools, 'node_modules', '.bin', 'esbuild'), args, place.app);
}

function webpack(place, { external: isExternal } = {}) {
  const { app, tools } = place;
  const configuration = {
    mode: 'production',
    target: 'node',
    context: app,
    entry: './main.cjs',
    output: { path: app, filename: 'bundle.cjs' },
    externals: isExternal ? { [NAME]: `commonjs ${NAME}` } : {},
  };
  const source = `
    const webpack = require(${JSON.stringify(join(tools, 'node_modules', 'webpack'))});
    webpack(${JSON.stringify(configuration)}, (error, stats) => {
      console.log(error ?? stats.toString());
      process.exitCode = error || stats.hasErrors() ? 1 : 0;
    });`;
  return command(process.execPath, ['-e', source], app);
}

function bunBuild(place) {
  return command(
    runtime('Bun 1'),
    ['build', 'main.cjs', '--target=node', '--format=cjs', `--external=${NAME}`, '--outfile=bundle.cjs'],
    place.app,
  );
}

function bunBundle(place) {
  const { succeeded, text } = command(runtime('Bun 1'), ['build', 'main.cjs', '--target=node', '--outdir', place.out], place.app);
  if (!succeeded) return text;
  ship(place, 'ally-guardian');
  rmSync(join(place.app, 'node_modules'), { recursive: true });
  return runFile(place, runtime(NODE), ['main.js']);
}

function external(place, bundle) {
  const { succeeded, text } = bundle(place, { external: true });
  return succeeded ? run(place.app, 'bundle.cjs') : text;
}

/** A copy of the binaries of the platform package in the output. */
function ship({ app, out }, ...names) {
  for (const name of names) cpSync(join(app, 'node_modules', packageOf(NAME, ownTarget()), name), join(out, name));
}
const runFile = ({ out }, program = join(out, 'main'), args = []) =>
  runScenario(program, args, out, { ...process.env, MATRIX_GUARDIAN: join(out, 'ally-guardian') }).problem;

function bunCompile(place) {
  const { succeeded, text } = command(
    runtime('Bun 1'),
    ['build', '--compile', 'main.cjs', '--outfile', join(place.out, 'main')],
    place.app,
  );
  if (!succeeded) return text;
  ship(place, 'ally-guardian');
  return runFile(place);
}

/** The steps of docs/platforms.md. */
function singleExecutable(place) {
  const { app, out, tools } = place;
  const bin = (name) => join(tools, 'node_modules', '.bin', name);
  const banner = "--banner:js=require = require('node:module').createRequire(process.execPath);";
  const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
  writeFileSync(join(app, 'sea.json'), '{ "main": "bundle.cjs", "output": "main.blob", "disableExperimentalSEAWarning": true }');
  copyFileSync(runtime(NODE), join(out, 'main'));
  chmodSync(join(out, 'main'), 0o755);
  for (const [program, args] of [
    [bin('esbuild'), ['main.cjs', '--bundle', '--platform=node', '--external:*.node', '--outfile=bundle.cjs', banner]],
    [runtime(NODE), ['--experimental-sea-config', 'sea.json']],
    [bin('postject'), [join(out, 'main'), 'NODE_SEA_BLOB', 'main.blob', '--sentinel-fuse', fuse]],
  ]) {
    const { succeeded, text } = command(program, args, app);
    if (!succeeded) return text;
  }
  ship(place, ADDON, 'ally-guardian');
  return runFile(place);
}
