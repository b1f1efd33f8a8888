'use strict';

const path = require('node:path');

/** The defaults of the specification in milliseconds, except two counts (MAX_…). */
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

/** The envs folder below a home directory. */
const envsDirBelow = (home) => path.join(home, '.ally', 'plugin-envs');

/** Uses the value of HOME at the load of the package. */
const PLUGIN_ENVS_DIR = path.isAbsolute(process.env.HOME ?? '') ? envsDirBelow(process.env.HOME) : envsDirWithoutHome();

function envsDirWithoutHome() {
  const { home } = require('./home.js').findHome('');
  // Without a home directory the root folder stands in, because loading the package must not fail.
  return envsDirBelow(home ?? path.sep);
}

module.exports = { PLUGIN_ENVS_DIR, PLUGIN_TIMEOUTS, ProcessState, envsDirBelow };
