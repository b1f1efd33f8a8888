'use strict';

// Not the global: a test's fake timers would stop it.
const { performance } = require('node:perf_hooks');

/** Milliseconds, never set back. */
const clock = performance.now.bind(performance);

/**
 * The native snapshot as the public surface has it: Dates for times, nothing that isn't there.
 * `age`: milliseconds since it was taken, in which it has not changed.
 */
function publicInfo(native, age, config) {
  const info = {
    state: native.state,
    config,
    failedHealthChecks: native.failedHealthChecks,
    restartAttempts: native.restartAttempts,
    lastStateChange: new Date(native.lastStateChange),
    totalRestarts: native.totalRestarts,
  };
  if (is(native.pid)) info.pid = native.pid;
  if (is(native.lastError)) info.lastError = native.lastError;
  if (is(native.uptime)) info.uptime = native.uptime + age;
  if (is(native.nextRestartAt)) info.nextRestartAt = new Date(native.nextRestartAt);
  if (native.lastExit) {
    const { pid, code, signal, at, reason } = native.lastExit;
    info.lastExit = { pid, at: new Date(at), reason };
    if (is(code)) info.lastExit.code = code;
    if (is(signal)) info.lastExit.signal = signal;
  }
  return Object.freeze(info);
}

/** Whether it is there: native code may say null for what is not. */
const is = (value) => value !== undefined && value !== null;

module.exports = { clock, publicInfo };
