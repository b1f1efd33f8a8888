'use strict';

const { isAbsolute, join } = require('node:path');
const { PLUGIN_TIMEOUTS } = require('./constants.js');
const { NativeManager } = require('../native.js');
const { builtIn } = require('./convert.js');
const { invalidConfig } = require('./errors.js');
const { defaultEnvsDir } = require('./home.js');

// The system's limit for one file name; each plugin has a folder of its name.
const MAX_NAME_BYTES = 255;

/**
 * The `daemon` section of a plugin.json as a configuration for startProcess.
 *
 * Checked here is what the configuration is made from: names and paths, which would otherwise end
 * up in other paths and be reported as those. Everything else is judged as the manager would, and
 * handed over whole: what a manifest says is never lost, a misspelt key included.
 */
function configFromManifest(manifest, at) {
  if (!isObject(manifest)) throw invalidConfig('manifest', mistyped(manifest, 'an object'));
  const { name, daemon } = manifest;
  const fail = (field, problem) => {
    throw invalidConfig(field, problem, name);
  };

  checkName(name, fail);
  if (daemon === undefined) fail('manifest.daemon', 'is required: this plugin declares no daemon');
  if (!isObject(daemon)) fail('manifest.daemon', mistyped(daemon, 'an object'));
  if (!isObject(at)) fail('at', mistyped(at, 'an object with a pluginPath'));
  checkPath(at.pluginPath, 'at.pluginPath', fail);
  const envsDir = at.envsDir === undefined ? defaultEnvsDir((problem) => fail('at.envsDir', problem)) : at.envsDir;
  checkPath(envsDir, 'at.envsDir', fail);
  const home = join(envsDir, name);
  const pythonPath = at.pythonPath === undefined ? join(home, 'bin', 'python3') : at.pythonPath;
  checkPath(pythonPath, 'at.pythonPath', fail);

  const { command, args = [], envVars, healthcheck, ...others } = defined(daemon);
  if (typeof command !== 'string') fail('manifest.daemon.command', mistyped(command, 'a string'));
  if (command === '') fail('manifest.daemon.command', 'must not be empty');
  if (!Array.isArray(args)) fail('manifest.daemon.args', mistyped(args, 'an array of strings'));
  args.forEach((arg, index) => {
    if (typeof arg !== 'string') fail(`manifest.daemon.args[${index}]`, mistyped(arg, 'a string'));
  });
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
    args: [...args],
  };
  if (healthcheck !== undefined) config.healthcheck = completeHealthcheck(healthcheck, fail);
  const environment = mergeEnvVars(envVars, at.envVars, fail);
  if (environment !== undefined) config.envVars = environment;
  const wrong = NativeManager.checkConfig(config);
  if (wrong) fail(wrong.field in daemon || /[.[]/.test(wrong.field) ? `manifest.daemon.${wrong.field}` : wrong.field, wrong.problem);
  return config;
}

function completeHealthcheck(given, fail) {
  if (!isObject(given)) fail('manifest.daemon.healthcheck', mistyped(given, 'an object'));
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

function checkName(name, fail) {
  const field = 'manifest.name';
  if (typeof name !== 'string') fail(field, mistyped(name, 'a string'));
  if (name === '') fail(field, 'must not be empty');
  if (name === '.' || name === '..') fail(field, "must not be '.' or '..'");
  if (name.includes('/')) fail(field, "must not contain '/'");
  if (name.includes('\0')) fail(field, 'must not contain NUL');
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES) fail(field, `must be at most ${MAX_NAME_BYTES} bytes long, got ${bytes}`);
}

function checkPath(path, field, fail) {
  if (typeof path !== 'string') fail(field, mistyped(path, 'a string'));
  if (!isAbsolute(path)) fail(field, 'must be an absolute path');
  if (path.includes('\0')) fail(field, 'must not contain NUL');
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
