// `node bench/guard.mjs`: whether something got dearer. It counts and compares, but never times, so that
// it says the same on a slow or a busy machine. Less than 20 seconds; ends with 1 if anything failed.

import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { idle } from './guard/idle.mjs';
import { ratios } from './guard/ratios.mjs';
import { syscalls } from './guard/syscalls.mjs';
import { daemon } from './lib/daemon.mjs';
import { World } from './lib/world.mjs';

let passed = 0;
let failed = 0;

function check(what, holds, detail) {
  if (holds) passed++;
  else failed++;
  console.log(`${holds ? '  ok    ' : '  FAILED'} ${what}: ${detail}`);
}

const skip = (what) => console.log(`  skipped ${what}`);

if (process.platform !== 'linux') {
  skip('everything: only Linux tells what is counted here');
  process.exit(0);
}

const dir = realpathSync(mkdtempSync('/tmp/guard-'));
const program = daemon();
const world = (name) => new World({ dir: `${dir}/${name}`, daemon: program, peers: {}, quick: true });
// The checks end when they say so.
const alive = setInterval(() => {}, 60_000);
try {
  for (const [name, part] of Object.entries({ syscalls, idle, ratios })) {
    try {
      await part(world(name), check, skip);
    } catch (error) {
      check(name, false, error.message);
    }
  }
} finally {
  clearInterval(alive);
  rmSync(dir, { recursive: true, force: true });
}
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
