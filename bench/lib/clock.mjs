// The daemons' clock (CLOCK_REALTIME) with microseconds, for comparing with their stamps.

/**
 * How far performance's idea of the wall clock is off. Date.now() is right at the moment at which it
 * changes; what performance says just after that can be late but never early, so the least counts.
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
