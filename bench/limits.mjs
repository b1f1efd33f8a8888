// `node bench/limits.mjs`: fails if a start, a stop, a check or an idle daemon needs more system calls, wake-ups or descriptors
// than its limit. It compares counts, and times only as ratios in the same process, so that the load of the machine cancels out.
// It takes less than 20 seconds, and exits with 1 if a limit is exceeded.

import { idle } from './limits/idle.mjs';
import { ratios } from './limits/ratios.mjs';
import { syscalls } from './limits/syscalls.mjs';
import { daemon } from './lib/daemon.mjs';
import { World } from '../__tests__/helpers/world.js';
import { Trial } from './lib/trial.mjs';

let passed = 0;
let failed = 0;

function check(what, isMet, detail) {
  if (isMet) passed++;
  else failed++;
  console.log(`${isMet ? '  ok    ' : '  FAILED'} ${what}: ${detail}`);
}

const skip = (what) => console.log(`  skipped ${what}`);

if (process.platform !== 'linux') {
  skip('everything: only Linux has these counters');
  process.exit(0);
}

const root = new World({ prefix: 'limits-' });
const program = daemon();
const trial = (name) => new Trial({ dir: root.path(name), daemon: program, peers: {}, quick: true });
// Keeps the event loop alive until the checks end.
const keepAlive = setInterval(() => {}, 60_000);
try {
  for (const [name, part] of Object.entries({ syscalls, idle, ratios })) {
    try {
      await part(trial(name), check, skip);
    } catch (error) {
      check(name, false, error.message);
    }
  }
} finally {
  clearInterval(keepAlive);
  root.remove();
}
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
