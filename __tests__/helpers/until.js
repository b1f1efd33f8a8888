'use strict';

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Polls `predicate` until its value is truthy, and returns that value. Tests wait with this or for an event, never for a
 * fixed time. The deadline exists to fail, so it is generous; the error says what was waited for and what came last.
 */
async function until(predicate, deadline = 10_000, what = String(predicate)) {
  const end = performance.now() + deadline;
  for (;;) {
    const value = await predicate();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${deadline} ms: ${what} (last value: ${String(value)})`);
    await sleep(3);
  }
}

module.exports = { sleep, until };
