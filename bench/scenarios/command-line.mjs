// The time of `ally-daemons ps`, beside the same Node.js with nothing to do.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { assert, root } from '../lib/trial.mjs';

const DAEMONS = 10;
const PAIRS = 10;

export default {
  name: 'commandLine',
  title: `ally-daemons ps, ${DAEMONS} daemons`,
  rounds: { quick: 1, full: 3 },
  contestants: { ally: 'ally', limit: 'node -e 0' },
  metrics: { whole: { label: 'the whole process', unit: 'ms' }, beyond: { label: 'beyond node -e 0, in turn', unit: 'ms' } },

  async run(trial, contestant) {
    if (contestant === 'limit') return { whole: Array.from({ length: PAIRS }, () => time(['-e', '0']).ms) };
    const names = Array.from({ length: DAEMONS }, (_, index) => `plugin-${index}`);
    const manager = trial.manager();
    await Promise.all(names.map((name) => manager.startProcess(trial.config(name))));
    const ps = [join(root, 'cli', 'main.js'), 'ps', '--envs-dir', trial.envsDir];
    assert(time(ps).stdout.split('running').length === DAEMONS + 1, 'ps shows all daemons as running');
    const pairs = Array.from({ length: PAIRS }, () => ({ limit: time(['-e', '0']).ms, ally: time(ps).ms }));
    await manager.stopAllProcesses();
    return { whole: pairs.map(({ ally }) => ally), beyond: pairs.map(({ ally, limit }) => ally - limit) };
  },
};

function time(words) {
  const begun = performance.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  const ms = performance.now() - begun;
  assert(status === 0, stderr);
  return { ms, stdout };
}
