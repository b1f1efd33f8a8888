// `npm test`: everything. `npm test -- FILE …`: these jest files alone.

import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const jest = join(root, 'node_modules', 'jest', 'bin', 'jest.js');

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

const chosen = process.argv.slice(2);
if (chosen.length === 0) run('cargo', ['test', '--quiet', '--workspace']);
run(process.execPath, [jest, ...chosen]);
