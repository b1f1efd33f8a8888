'use strict';

// What this process holds of the system.

const { children, descriptors, memory, threads, zombies } = require('./proc');
const { until } = require('./until');

/** In kB, what is really in use: neither mapped files nor the free part of V8's heap. */
function memoryInUse() {
  global.gc?.();
  const { heapTotal, heapUsed } = process.memoryUsage();
  return memory(process.pid, 'Anonymous') - Math.round((heapTotal - heapUsed) / 1024);
}

/** Counted when no more is on its way: when only `guardians` children are left, and no zombie or not within a second. */
async function usage(guardians = 0) {
  await until(() => children(process.pid).length === guardians, 5_000, `${guardians} children are left`);
  await until(() => zombies(process.pid).length === 0, 1_000).catch(() => {});
  return {
    descriptors: descriptors(process.pid).length,
    threads: threads(process.pid).length,
    zombies: zombies(process.pid).length,
    memory: memoryInUse(),
  };
}

module.exports = { usage };
