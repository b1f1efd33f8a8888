// The stalls and the busy time of this thread's event loop.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { sleep } from '../../__tests__/helpers/until.js';

/** Calls `work`. Resolves to its result, and to the largest delay in ms of a timer of one millisecond meanwhile. */
export async function worstStall(work) {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  // The first ticks measure earlier work.
  await sleep(50);
  histogram.reset();
  // A reset drops the last tick too, so a delay before the next tick would be missed.
  await sleep(5);
  const result = await work();
  // The tick in which the work ended counts.
  await sleep(5);
  histogram.disable();
  return { result, stall: Math.max(0, histogram.max / 1e6 - 1) };
}

/** Calls `work`. Resolves to its result, the busy time of the loop in ms, and its share in percent. */
export async function loopTime(work) {
  const before = performance.eventLoopUtilization();
  const result = await work();
  const { active, utilization } = performance.eventLoopUtilization(before);
  return { result, busy: active, share: utilization * 100 };
}

/** Written memory in many small pieces, as in a program. Unwritten memory would have no pages. */
export function fill(bytes) {
  const piece = 64 * 1024;
  return Array.from({ length: bytes / piece }, () => Buffer.alloc(piece, 1));
}
