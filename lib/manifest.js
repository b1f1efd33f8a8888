'use strict';

const { join } = require('node:path');

const { NativeManager } = require('../native.js');
const { builtIn, copyConfig } = require('./config-copy.js');
const { PLUGIN_TIMEOUTS } = require('./constants.js');
const { invalidConfig } = require('./errors.js');
const { defaultEnvsDir } = require('./home.js');

/** Keys of the configuration that get a default, if the daemon section has no value. */
const COMPLETED = ['socketPath', 'startupTimeout', 'shutdownGracePeriod'];

/**
 * Turns the `daemon` section of a plugin.json into a configuration for startProcess.
 *
 * Name and paths are checked first, because other values are derived from them, and the error must name the field of the
 * caller. All other values get the check of startProcess. Unknown keys are passed on, so that startProcess warns of a
 * misspelt key.
 */
function configFromManifest(manifest, at) {
  if (!isObject(manifest)) throw invalidConfig('manifest', mistyped(manifest, 'an object'));
  const { name, daemon } = manifest;
  const fail = (field, problem) => {
    throw invalidConfig(field, problem, name);
  };
  const check = (field, problem) => {
    if (problem) fail(field, problem);
  };

  check('manifest.name', NativeManager.nameProblem(name));
  if (daemon === undefined) fail('manifest.daemon', 'is required: this plugin declares no daemon');
  if (!isObject(daemon)) fail('manifest.daemon', mistyped(daemon, 'an object'));
  if (!isObject(at)) fail('at', mistyped(at, 'an object with a pluginPath'));
  check('at.pluginPath', NativeManager.pathProblem(at.pluginPath));
  const envsDir = at.envsDir === undefined ? defaultEnvsDir((problem) => fail('at.envsDir', problem)) : at.envsDir;
  check('at.envsDir', NativeManager.pathProblem(envsDir));
  const home = join(envsDir, name);
  const pythonPath = at.pythonPath === undefined ? join(home, 'bin', 'python3') : at.pythonPath;
  check('at.pythonPath', NativeManager.pathProblem(pythonPath));

  const { command, args = [], envVars, healthcheck, ...others } = defined(daemon);
  for (const key of ['pluginName', 'pluginPath']) {
    // Name and folder of a plugin come from the manifest and from `at`, and a second source could contradict them.
    if (key in others) fail(`manifest.daemon.${key}`, 'must not be given: it follows from the manifest and its folder');
  }

  const config = {
    startupTimeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
    shutdownGracePeriod: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD,
    socketPath: join(home, 'daemon.sock'),
    ...others,
    pluginName: name,
    pluginPath: at.pluginPath,
    command: command === 'python3' ? pythonPath : command,
    args: Array.isArray(args) ? [...args] : args,
  };
  if (healthcheck !== undefined) config.healthcheck = completeHealthcheck(healthcheck);
  const environment = mergeEnvVars(envVars, at.envVars, fail);
  if (environment !== undefined) config.envVars = environment;
  const { given, builtIns } = copyConfig(config);
  const wrong = NativeManager.checkConfig(given, builtIns);
  if (wrong)
    fail(COMPLETED.includes(wrong.field) && !(wrong.field in daemon) ? wrong.field : `manifest.daemon.${wrong.field}`, wrong.problem);
  return config;
}

function completeHealthcheck(given) {
  if (!isObject(given)) return given;
  return {
    interval: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL,
    timeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT,
    retries: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES,
    ...defined(given),
  };
}

// An undefined entry of the caller is kept, because it removes the manifest's variable.
function mergeEnvVars(fromManifest, fromCaller, fail) {
  for (const [field, value] of [
    ['manifest.daemon.envVars', fromManifest],
    ['at.envVars', fromCaller],
  ]) {
    if (value !== undefined && !isObject(value)) fail(field, mistyped(value, 'an object of strings'));
  }
  if (fromManifest === undefined && fromCaller === undefined) return undefined;
  return { ...fromManifest, ...fromCaller };
}

/** A copy without undefined values: a key with the value undefined counts as absent. */
function defined(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

// Names the kind of the value and not the value: environment variables and arguments may be secrets.
function mistyped(value, wanted) {
  if (value === undefined) return `is required and must be ${wanted}`;
  if (value === null) return `must be ${wanted}, got null`;
  if (Array.isArray(value)) return `must be ${wanted}, got an array`;
  const kind = (typeof value === 'object' && builtIn(value)?.slice('a '.length)) || typeof value;
  return `must be ${wanted}, got ${kind === 'object' ? 'an' : 'a'} ${kind}`;
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !builtIn(value);
}

module.exports = { configFromManifest };
