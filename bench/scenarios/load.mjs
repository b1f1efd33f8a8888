// The time to require the package, in a new process each time.

import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { assert, root } from '../lib/trial.mjs';

export default {
  name: 'load',
  title: 'Load',
  rounds: { quick: 5, full: 20 },
  contestants: { ally: 'ally', execa: 'execa', pm2: 'pm2' },
  metrics: {
    require: { label: 'require or import', unit: 'ms' },
    addon: { label: 'ally.node', unit: 'KB' },
    guardian: { label: 'ally-guardian', unit: 'KB' },
  },

  async run(trial, contestant) {
    const load =
      contestant === 'ally'
        ? `require(${JSON.stringify(root)})`
        : contestant === 'pm2'
          ? `require(${JSON.stringify(trial.peers.pm2)})`
          : `await import(${JSON.stringify(pathToFileURL(trial.peers.execa).href)})`;
    const script = `(async () => { const begun = performance.now(); ${load}; const ms = performance.now() - begun; process.stdout.write(String(ms)); process.exit(); })()`;
    // Other output of the package is ignored.
    const require = Number(
      execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', env: { ...process.env, PM2_HOME: join(trial.dir, 'pm2') } }).match(
        /[\d.]+$/,
      )[0],
    );
    if (contestant !== 'ally') return { require: [require] };
    const built = join(root, 'prebuilt', `${process.platform}-${process.arch}`);
    const [addon, guardian] = ['ally.node', 'ally-guardian'].map((name) => statSync(join(built, name)).size / 1e3);
    assert(addon > 0 && guardian > 0, 'both are built');
    return { require: [require], addon: [addon], guardian: [guardian] };
  },
};
