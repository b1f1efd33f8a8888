'use strict';

const { NativeManager } = require('../native.js');
const { NAME, copyConfig, shortened } = require('./config-copy.js');
const { guarded, invalidConfig, notSupported } = require('./errors.js');
const { defaultEnvsDir } = require('./home.js');

/** An option for managers of this package's own use: their processes are no daemons, and no diagnostics channel gets them. */
const UNPUBLISHED = Symbol('unpublished');

/** Checks the options of a manager, and adds their defaults. */
function managerOptions(options = {}) {
  return guarded('options', undefined, () => checkedOptions(options));
}

function checkedOptions(options) {
  if (typeof options !== 'object' || options === null) throw invalidConfig('options', 'must be an object');
  const keys = NativeManager.keys();
  // Without the addon there is no list, and every start fails in any case.
  const unknown = keys.options && Object.keys(options).find((name) => !keys.options.includes(name) && options[name] !== undefined);
  if (unknown !== undefined)
    throw invalidConfig(shortened(unknown), `is no option of the manager: the options are ${keys.options.join(', ')}`);
  for (const name of keys.unbuiltOptions) if ((options[name] ?? undefined) !== undefined) throw notSupported(name);
  // As in a configuration, null is absent.
  const envsDir = options.envsDir ?? defaultEnvsDir(refuseEnvsDir);
  const logger = options.logger ?? undefined;
  const onOwnerDeath = options.onOwnerDeath ?? 'stop';
  const guardianPath = options.guardianPath ?? undefined;
  if (NativeManager.pathProblem(envsDir)) refuseEnvsDir('must be an absolute path');
  if (onOwnerDeath !== 'stop' && onOwnerDeath !== 'keep') throw invalidConfig('onOwnerDeath', "must be one of 'stop', 'keep'");
  checkLogger(logger);
  checkGuardianPath(guardianPath);
  const isPublished = options[UNPUBLISHED] !== true;
  return { envsDir, logger, onOwnerDeath, guardianPath, isPublished, defaults: keys.options && checkedDefaults(options.defaults) };
}

function checkLogger(logger) {
  if (logger === undefined) return;
  for (const level of ['debug', 'info', 'warn', 'error']) {
    if (typeof logger?.[level] !== 'function') throw invalidConfig('logger', `must have a method ${level}`);
  }
}

/** Whether the program is there and can be run is seen at the first start. */
function checkGuardianPath(guardianPath) {
  const problem = guardianPath === undefined ? undefined : NativeManager.pathProblem(guardianPath);
  if (problem) throw invalidConfig('guardianPath', problem);
}

/** A valid value for each required key, for the check of the defaults. */
const REQUIRED = { pluginName: 'x', pluginPath: '/', command: 'x', args: [], socketPath: '/x', startupTimeout: 1, shutdownGracePeriod: 0 };
/** The keys of a single plugin. */
const OF_ONE_PLUGIN = ['pluginName', 'pluginPath', 'command', 'args', 'socketPath'];

/** The frozen copy of the defaults. They are checked here, so that no start fails because of them. */
function checkedDefaults(value) {
  return guarded('defaults', undefined, () => checkDefaults(value));
}

function checkDefaults(value) {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw invalidConfig('defaults', 'must be an object');
  const { given, unread, builtIns } = copyConfig(value, 'defaults');
  if (builtIns[0] === '') throw invalidConfig('defaults', `must be plain data, got ${builtIns[1]}`);
  if (unread.length > 0) throw invalidConfig(`defaults.${unread[0]}`, 'is no key of a configuration');
  const own = OF_ONE_PLUGIN.find((key) => given[key] !== undefined);
  if (own !== undefined) throw invalidConfig(`defaults.${own}`, 'must not be given: each plugin has its own');
  const present = Object.fromEntries(Object.entries(given).filter(([, each]) => each !== undefined && each !== null));
  const wrong = NativeManager.checkConfig({ ...REQUIRED, ...present }, builtIns);
  if (wrong) throw invalidConfig(`defaults.${wrong.field}`, wrong.problem);
  if (typeof present.logs?.file === 'string' && !present.logs.file.includes(NAME))
    throw invalidConfig(
      'defaults.logs.file',
      `must contain ${NAME}, which becomes the name of the plugin: no two plugins can write one file`,
    );
  return given;
}

function refuseEnvsDir(problem) {
  throw invalidConfig('envsDir', problem);
}

/** Checks the options of one call. */
function callOptions(options, pluginName) {
  if (options === undefined) return {};
  if (typeof options !== 'object' || options === null) throw invalidConfig('options', 'must be an object', pluginName);
  return options;
}

/** Reads an option of one call. An error of a getter is replaced, because it has no `code`, and its text may contain a secret. */
function readOption(options, name, field, pluginName) {
  const given = callOptions(options, pluginName);
  try {
    return given[name];
  } catch {
    throw unreadable(field, pluginName);
  }
}

function unreadable(field, pluginName) {
  return invalidConfig(field, "can't be read: what should give its value throws", pluginName);
}

function abortSignal(options, pluginName) {
  const signal = readOption(options, 'signal', 'options.signal', pluginName);
  if (signal === undefined) return undefined;
  // By its members and not by instanceof, because the signal may be of another realm.
  const isSignal = attempt(() => typeof signal?.addEventListener === 'function' && typeof signal.aborted === 'boolean');
  if (isSignal.threw) throw unreadable('options.signal', pluginName);
  if (!isSignal.value) throw invalidConfig('options.signal', 'must be an AbortSignal', pluginName);
  return signal;
}

/** Whether the signal is aborted. A signal that can't be read any more is not. */
const isAborted = (signal) => attempt(() => signal?.aborted).value === true;

/** The reason of an aborted signal. `error`: what takes its place, if the reason can't be read. */
function reasonOf(signal, error) {
  const reason = attempt(() => signal.reason);
  return reason.threw ? error : reason.value;
}

function attempt(read) {
  try {
    return { value: read() };
  } catch {
    return { threw: true };
  }
}

module.exports = { UNPUBLISHED, abortSignal, checkGuardianPath, checkLogger, isAborted, managerOptions, readOption, reasonOf, unreadable };
