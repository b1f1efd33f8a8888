'use strict';

// Not the global, because a test's fake timers would stop the clock.
const { performance } = require('node:perf_hooks');

/** Monotonic milliseconds. */
const clock = performance.now.bind(performance);

/**
 * Turns a native snapshot into a ProcessInfo: times become Dates, absent values are omitted. `age`: milliseconds since the
 * snapshot was read. It has not changed since.
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
  if (isPresent(native.pid)) info.pid = native.pid;
  if (isPresent(native.lastError)) info.lastError = native.lastError;
  if (isPresent(native.uptime)) info.uptime = native.uptime + age;
  if (isPresent(native.nextRestartAt)) info.nextRestartAt = new Date(native.nextRestartAt);
  if (isPresent(native.status)) info.status = native.status;
  if (native.armed) info.armed = true;
  if (isPresent(native.sessions)) info.sessions = native.sessions;
  if (native.lastExit) {
    const { pid, code, signal, at, reason, memoryPeak, cpuTime } = native.lastExit;
    info.lastExit = { pid, at: new Date(at), reason };
    if (isPresent(code)) info.lastExit.code = code;
    if (isPresent(signal)) info.lastExit.signal = signal;
    if (isPresent(memoryPeak)) info.lastExit.memoryPeak = memoryPeak;
    if (isPresent(cpuTime)) info.lastExit.cpuTime = cpuTime;
  }
  return Object.freeze(info);
}

/** Turns native metrics into ProcessMetrics: absent values are omitted. */
function publicMetrics(native) {
  const { pluginName, state, starts, restarts, crashes, outputBytes } = native;
  const healthChecks = { passed: native.checksPassed, failed: native.checksFailed };
  for (const key of ['lastLatency', 'p50', 'p99']) if (isPresent(native[key])) healthChecks[key] = native[key];
  const metrics = { pluginName, state, uptime: native.uptime ?? 0, starts, restarts, crashes, healthChecks, outputBytes };
  // Spread, because the native object belongs to the realm that loaded the addon.
  if (native.resources) metrics.resources = { ...native.resources };
  return metrics;
}

/** Native code may return null for an absent value. */
const isPresent = (value) => value !== undefined && value !== null;

module.exports = { clock, publicInfo, publicMetrics };
