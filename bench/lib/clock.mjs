// The clock of the daemons' stamps (CLOCK_REALTIME), with microseconds.

/**
 * The offset of `performance` to the wall clock. Date.now() is exact at the moment when it changes. A reading of `performance`
 * just after that moment can be late but never early, so the smallest difference counts.
 */
function calibrate() {
  let off = Infinity;
  for (let ticks = 0; ticks < 20; ticks++) {
    const before = Date.now();
    let date = before;
    while (date === before) date = Date.now();
    off = Math.min(off, performance.timeOrigin + performance.now() - date);
  }
  return performance.timeOrigin - off;
}

const origin = calibrate();

/** Milliseconds since 1970. */
export const now = () => origin + performance.now();
