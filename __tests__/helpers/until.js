'use strict';

/**
 * Waits until `predicate` gives something truthy, and returns that. Tests wait with this or for an event, never for a
 * fixed time; the deadline is there to fail, so it is generous.
 */
async function until(predicate, deadline = 10_000, what = String(predicate)) {
  const end = performance.now() + deadline;
  for (;;) {
    const value = await predicate();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${deadline} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

/** The error that a promise rejects with; one that resolves fails the test. */
async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`expected a rejection, but it resolved to ${String(value)}`);
}

/** What became of a promise so far: lets a test look at it while it is pending. */
function watch(promise) {
  const seen = { settled: false, value: undefined, error: undefined, promise };
  promise.then(
    (value) => Object.assign(seen, { settled: true, value }),
    (error) => Object.assign(seen, { settled: true, error }),
  );
  return seen;
}

module.exports = { failure, until, watch };
