'use strict';

/** The error with which a promise rejects. A promise that resolves fails the test. */
async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`expected a rejection, but it resolved to ${String(value)}`);
}

/** The error that an action throws. An action that returns fails the test. */
function thrown(action) {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error('expected it to throw');
}

/** The outcome of a promise so far, for tests that look at it while it is pending. */
function watch(promise) {
  const seen = { settled: false, value: undefined, error: undefined, promise };
  promise.then(
    (value) => Object.assign(seen, { settled: true, value }),
    (error) => Object.assign(seen, { settled: true, error }),
  );
  return seen;
}

module.exports = { failure, thrown, watch };
