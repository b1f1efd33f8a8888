'use strict';

const { join } = require('node:path');

const { NativeManager } = require('../native.js');
const { builtIn, copyConfig } = require('./config-copy.js');
const { PLUGIN_TIMEOUTS } = require('./constants.js');
const { guarded, invalidConfig } = require('./errors.js');
const { defaultEnvsDir } = require('./home.js');

/** Keys of the configuration that get a default, if the manifest has no value. */
const COMPLETED = ['socketPath', 'startupTimeout', 'shutdownGracePeriod'];

/** Keys of Ally's `background` section that have another name in a configuration. */
const BACKGROUND_KEYS = {
  socketPath: 'communication.path',
  startupTimeout: 'startup_timeout',
  shutdownGracePeriod: 'shutdown_grace_period',
};

/**
 * Turns the `daemon` section of a plugin.json into a configuration for startProcess. Without a `daemon` section, Ally's
 * `background` section is read.
 *
 * Name and paths are checked first, because other values are derived from them, and the error must name the field of the
 * caller. All other values get the check of startProcess. Unknown keys are passed on, so that startProcess warns of a
 * misspelt key.
 */
function configFromManifest(manifest, at) {
  const given = guarded('manifest', undefined, () => read(manifest, ['name', 'daemon', 'background']));
  const place = guarded('at', given?.name, () => {
    const parts = read(at, ['pluginPath', 'envsDir', 'pythonPath', 'envVars']);
    return isObject(parts?.envVars) ? { ...parts, envVars: { ...parts.envVars } } : parts;
  });
  const section = isAbsent(given?.daemon) && !isAbsent(given?.background) ? 'manifest.background' : 'manifest.daemon';
  return guarded(section, given?.name, () => completeConfig(given, place));
}

/** The values of these keys, each read once. If `value` is no object, it stays as it is, and the check names it. */
function read(value, keys) {
  return isObject(value) ? Object.fromEntries(keys.map((key) => [key, value[key]])) : value;
}

function completeConfig(manifest, at) {
  if (!isObject(manifest)) throw invalidConfig('manifest', mistyped(manifest, 'an object'));
  const { name } = manifest;
  const fail = (field, problem) => {
    throw invalidConfig(field, problem, name);
  };
  const check = (field, problem) => {
    if (problem) fail(field, problem);
  };

  check('manifest.name', NativeManager.nameProblem(name));
  const { section, fields, fieldOf } = sectionOf(manifest, fail);
  if (!isObject(at)) fail('at', mistyped(at, 'an object with a pluginPath'));
  check('at.pluginPath', NativeManager.pathProblem(at.pluginPath));
  const envsDir = isAbsent(at.envsDir) ? defaultEnvsDir((problem) => fail('at.envsDir', problem)) : at.envsDir;
  check('at.envsDir', NativeManager.pathProblem(envsDir));
  const home = join(envsDir, name);
  const pythonPath = isAbsent(at.pythonPath) ? join(home, 'bin', 'python3') : at.pythonPath;
  check('at.pythonPath', NativeManager.pathProblem(pythonPath));

  const { command, args = [], envVars, healthcheck, ...others } = fields;
  for (const key of ['pluginName', 'pluginPath']) {
    // Name and folder of a plugin come from the manifest and from `at`, and a second source could contradict them.
    if (key in others) fail(`${section}.${key}`, 'must not be given: it follows from the manifest and its folder');
  }

  const config = {
    startupTimeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
    shutdownGracePeriod: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD,
    socketPath: join(home, 'daemon.sock'),
    ...others,
    pluginName: name,
    pluginPath: at.pluginPath,
    command: command === 'python3' ? pythonPath : command,
    args: Array.isArray(args) ? args.map((arg) => (typeof arg === 'number' ? String(arg) : arg)) : args,
  };
  if (healthcheck !== undefined) config.healthcheck = completeHealthcheck(healthcheck);
  const environment = mergeEnvVars(section, envVars, at.envVars, fail);
  if (environment !== undefined) config.envVars = environment;
  const { given, builtIns } = copyConfig(config);
  const wrong = NativeManager.checkConfig(given, builtIns);
  if (wrong) fail(COMPLETED.includes(wrong.field) && !(wrong.field in fields) ? wrong.field : fieldOf(wrong.field), wrong.problem);
  return config;
}

/** The section that describes the daemon, its fields under the names of a configuration, and the names for errors. */
function sectionOf({ daemon, background }, fail) {
  if (isAbsent(daemon) && !isAbsent(background)) return backgroundSection(background, fail);
  const section = 'manifest.daemon';
  if (isAbsent(daemon)) fail(section, 'is required: this plugin declares no daemon');
  if (!isObject(daemon)) fail(section, mistyped(daemon, 'an object'));
  return { section, fields: present(daemon), fieldOf: (field) => `${section}.${field}` };
}

/** `events` is left out: the caller subscribes its plugin to them. */
function backgroundSection(background, fail) {
  const section = 'manifest.background';
  if (!isObject(background)) fail(section, mistyped(background, 'an object'));
  const { enabled, events: _, communication, startup_timeout, shutdown_grace_period, ...others } = present(background);
  if (enabled === false) fail(`${section}.enabled`, "must not be false: this plugin's daemon is turned off");
  if (communication !== undefined && !isObject(communication)) {
    fail(`${section}.communication`, mistyped(communication, "an object with the socket's path"));
  }
  const { type = 'socket', path } = present(communication ?? {});
  if (type !== 'socket') fail(`${section}.communication.type`, "must be 'socket'");
  const renamed = present({ socketPath: path, startupTimeout: startup_timeout, shutdownGracePeriod: shutdown_grace_period });
  const fieldOf = (field) => `${section}.${field in renamed ? BACKGROUND_KEYS[field] : field}`;
  return { section, fields: { ...others, ...renamed }, fieldOf };
}

function completeHealthcheck(given) {
  if (!isObject(given)) return given;
  return {
    interval: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL,
    timeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT,
    retries: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES,
    ...present(given),
  };
}

// An undefined entry of the caller is kept, because it removes the manifest's variable.
function mergeEnvVars(section, fromManifest, fromCaller, fail) {
  for (const [field, value] of [
    [`${section}.envVars`, fromManifest],
    ['at.envVars', fromCaller],
  ]) {
    if (!isAbsent(value) && !isObject(value)) fail(field, mistyped(value, 'an object of strings'));
  }
  if (isAbsent(fromManifest) && isAbsent(fromCaller)) return undefined;
  const merged = Object.entries({ ...fromManifest, ...fromCaller });
  return Object.fromEntries(merged.map(([key, value]) => [key, ['number', 'boolean'].includes(typeof value) ? String(value) : value]));
}

const isAbsent = (value) => value === undefined || value === null;

/** A copy without absent values: undefined, and null, which JSON has in place of undefined. */
function present(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => !isAbsent(value)));
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
