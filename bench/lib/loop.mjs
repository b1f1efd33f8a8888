// How long this thread's event loop was kept from its work.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { sleep } from '../../__tests__/helpers/until.js';

/** Calls `work`, and tells in ms by how much a timer of one millisecond came late at worst until it is done. */
export async function worstStall(work) {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  // The first ticks belong to whatever was before.
  await sleep(50);
  histogram.reset();
  // A reset forgets the last tick too, and what comes before the next one would be missed.
  await sleep(5);
  const result = await work();
  // The tick in which the work ended counts.
  await sleep(5);
  histogram.disable();
  return { result, stall: Math.max(0, histogram.max / 1e6 - 1) };
}

/** Calls `work`, and tells how many ms the loop was busy, and what share of the time that was. */
export async function loopTime(work) {
  const before = performance.eventLoopUtilization();
  const result = await work();
  const { active, utilization } = performance.eventLoopUtilization(before);
  return { result, busy: active, share: utilization * 100 };
}

/** Memory that is there, not only promised. Many small pieces, as a program has. */
export function fill(bytes) {
  const piece = 64 * 1024;
  return Array.from({ length: bytes / piece }, () => Buffer.alloc(piece, 1));
}
