'use strict';

const { join } = require('node:path');

const { NativeManager } = require('../native.js');
const { builtIn, copyConfig } = require('./config-copy.js');
const { PLUGIN_TIMEOUTS } = require('./constants.js');
const { invalidConfig } = require('./errors.js');
const { defaultEnvsDir } = require('./home.js');

/** Keys of the configuration that have a value also where the daemon section has none. */
const COMPLETED = ['socketPath', 'startupTimeout', 'shutdownGracePeriod'];

/**
 * The `daemon` section of a plugin.json as a configuration for startProcess.
 *
 * Checked first are the names and paths from which others are made, so that the error names the one that was given. The
 * rest is judged as startProcess would judge it, and handed over whole: what a manifest says is never lost, a misspelt key
 * included.
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
    // Who a plugin is and where it lives is not for its daemon section to say.
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

// An entry of the caller's that is undefined is kept: it takes the manifest's variable out again.
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

/** Without the keys whose value is undefined: as in JSON, these are not there. */
function defined(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

// Says of what kind a value is, never the value: environment variables and arguments may be secrets.
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
