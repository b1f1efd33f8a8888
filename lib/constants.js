'use strict';

/** The defaults of the specification. Milliseconds, but for the two counts (MAX_…). */
const PLUGIN_TIMEOUTS = Object.freeze({
  BACKGROUND_PROCESS_STARTUP: 30000,
  BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD: 5000,
  BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL: 30000,
  BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT: 5000,
  BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES: 3,
  BACKGROUND_PROCESS_MAX_RESTART_ATTEMPTS: 3,
  BACKGROUND_PROCESS_RESTART_DELAY: 5000,
});

const ProcessState = Object.freeze({
  STARTING: 'starting',
  RUNNING: 'running',
  STOPPING: 'stopping',
  STOPPED: 'stopped',
  ERROR: 'error',
});

module.exports = { PLUGIN_TIMEOUTS, ProcessState };
