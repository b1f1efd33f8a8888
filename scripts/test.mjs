// `npm test`: everything. `npm test -- FILE …`: these jest files alone.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const jest = join(root, 'node_modules', 'jest', 'bin', 'jest.js');

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** Packages of PyPI that tests use. Without a network their tests are skipped, and say so. */
const TOOLS = [
  ['prometheus_client', 'prometheus_client==0.26.0'],
  ['uvicorn', 'uvicorn==0.38.0'],
  [join('bin', 'uv'), 'uv==0.13.9'],
];

function installTools() {
  const folder = join(root, 'target', 'python');
  for (const [file, name] of TOOLS) {
    if (existsSync(join(folder, file))) continue;
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--upgrade', '--target', folder, name];
    const { status } = spawnSync('python3', pip, { stdio: 'inherit' });
    if (status !== 0) console.error(`${name} could not be installed: its tests are skipped`);
  }
}

const chosen = process.argv.slice(2);
if (chosen.length === 0) run('cargo', ['test', '--quiet', '--workspace']);
installTools();
run(process.execPath, [jest, ...chosen]);
