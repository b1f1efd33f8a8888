'use strict';

const { NativeManager } = require('../native.js');
const { invalidConfig, notSupported } = require('./errors.js');
const { defaultEnvsDir } = require('./home.js');

/** Checks the options of a manager, and adds their defaults. */
function managerOptions(options = {}) {
  if (typeof options !== 'object' || options === null) throw invalidConfig('options', 'must be an object');
  const keys = NativeManager.keys();
  // Without the addon there is no list, and every start fails in any case.
  const unknown = keys.options && Object.keys(options).find((name) => !keys.options.includes(name) && options[name] !== undefined);
  if (unknown !== undefined) throw invalidConfig(unknown, `is no option of the manager: the options are ${keys.options.join(', ')}`);
  for (const name of keys.unbuiltOptions) if (options[name] !== undefined) throw notSupported(name);
  const { envsDir = defaultEnvsDir(refuseEnvsDir), logger, onOwnerDeath = 'stop' } = options;
  if (NativeManager.pathProblem(envsDir)) refuseEnvsDir('must be an absolute path');
  if (onOwnerDeath !== 'stop' && onOwnerDeath !== 'keep') throw invalidConfig('onOwnerDeath', "must be one of 'stop', 'keep'");
  if (logger !== undefined) {
    for (const level of ['debug', 'info', 'warn', 'error']) {
      if (typeof logger?.[level] !== 'function') throw invalidConfig('logger', `must have a method ${level}`);
    }
  }
  return { envsDir, logger, onOwnerDeath };
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

function abortSignal(options, pluginName) {
  const { signal } = callOptions(options, pluginName);
  // By its members and not by instanceof, because the signal may be of another realm.
  if (signal !== undefined && (typeof signal?.addEventListener !== 'function' || typeof signal.aborted !== 'boolean')) {
    throw invalidConfig('options.signal', 'must be an AbortSignal', pluginName);
  }
  return signal;
}

module.exports = { abortSignal, callOptions, managerOptions };
