// Test runners in which the package is used: each loads the addon its own way, in processes, threads and vm contexts.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { npmPackages } from '../cache.mjs';
import { runtime } from './runtimes.mjs';

const here = dirname(fileURLToPath(import.meta.url));
/** The newest that all of them run on. */
const NODE = '24';

const common = "const supervises = require('./supervises.cjs');\n";
const test = `${common}test('a daemon is supervised', supervises, 30_000);\n`;
const TEXTS = {
  jest: { name: 'test.js', text: test },
  mocha: { name: 'cjs', text: `${common}it('a daemon is supervised', supervises).timeout(30_000);\n` },
  vitest: {
    name: 'test.mjs',
    text: "import { test } from 'vitest';\nimport supervises from './supervises.cjs';\ntest('a daemon is supervised', supervises, 30_000);\n",
  },
  'node:test': { name: 'test.cjs', text: `const { test } = require('node:test');\n${test}` },
};
const vitest = (pool) => ({
  name: `vitest 5, pool ${pool}`,
  kind: 'vitest',
  from: ['vitest', '5'],
  bin: 'vitest.mjs',
  args: ['run', `--pool=${pool}`],
});
const jest = (version) => ({
  name: `jest ${version}`,
  kind: 'jest',
  from: ['jest', version],
  bin: 'bin/jest.js',
  args: ['--rootDir=.', '--watchman=false'],
});
const RUNNERS = [
  jest('29'),
  jest('30'),
  vitest('forks'),
  vitest('threads'),
  vitest('vmForks'),
  vitest('vmThreads'),
  { name: 'node:test', kind: 'node:test', args: ['--test'] },
  { name: 'mocha 12', kind: 'mocha', from: ['mocha', '12'], bin: 'bin/mocha.js', args: ['one.cjs', 'two.cjs'] },
  { name: 'mocha 12, --parallel', kind: 'mocha', from: ['mocha', '12'], bin: 'bin/mocha.js', args: ['--parallel', 'one.cjs', 'two.cjs'] },
];

/** `app`: a folder where the package is installed. Yields the name of each runner, with a problem if there is one. */
export function* tryRunners(app, only = '') {
  const node = runtime(`Node.js ${NODE}`);
  for (const runner of RUNNERS.filter(({ name }) => name.includes(only)))
    yield { name: runner.name, problem: node ? problemOf(runner, node, app) : 'no Node.js' };
}

function problemOf({ kind, from, bin, args }, node, app) {
  const home = from && npmPackages(from.join('-'), { [from[0]]: from[1] });
  if (from && !home) return 'not to be had';
  const folder = join(app, `${kind.replace(':', '-')}-${readdirSync(app).length}`);
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  // The package is found in the folder above.
  for (const name of home ? readdirSync(join(home, 'node_modules')) : [])
    symlinkSync(join(home, 'node_modules', name), join(folder, 'node_modules', name));
  cpSync(join(here, 'runners', 'supervises.cjs'), join(folder, 'supervises.cjs'));
  cpSync(join(here, 'daemon.py'), join(folder, 'daemon.py'));
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  for (const name of ['one', 'two']) writeFileSync(join(folder, `${name}.${TEXTS[kind].name}`), TEXTS[kind].text);
  const program = bin ? [join(home, 'node_modules', from[0], bin)] : [];
  const { status, signal, stdout, stderr } = spawnSync(node, [...program, ...args], { cwd: folder, encoding: 'utf8', timeout: 120_000 });
  return status === 0 ? undefined : `it ends with ${status ?? signal}\n${stdout}${stderr}`;
}
