'use strict';
// Checks what callers of PluginEnvironmentManager give. Nothing is changed before these checks have passed.

const path = require('node:path');

const { NativeManager } = require('../../native.js');
const { shortened } = require('../config-copy.js');
const { guarded, invalidConfig } = require('../errors.js');
const { defaultEnvsDir } = require('../home.js');
const { checkGuardianPath, checkLogger } = require('../options.js');

/** The folder of the installers' locks, below `envsDir`. No plugin can have its name. */
const LOCKS = '.ally-install';

const OPTIONS = ['envsDir', 'logger', 'onProgress', 'guardianPath'];
const RUNTIMES = ['python3', 'node'];

function environmentOptions(options = {}) {
  return guarded('options', undefined, () => {
    if (typeof options !== 'object' || options === null) throw invalidConfig('options', 'must be an object');
    const unknown = Object.keys(options).find((name) => !OPTIONS.includes(name) && options[name] !== undefined);
    if (unknown !== undefined)
      throw invalidConfig(shortened(unknown), `is no option of the environment manager: the options are ${OPTIONS.join(', ')}`);
    const refuse = (problem) => {
      throw invalidConfig('envsDir', problem);
    };
    const { envsDir = defaultEnvsDir(refuse), logger, onProgress, guardianPath } = options;
    if (NativeManager.pathProblem(envsDir)) refuse('must be an absolute path');
    checkLogger(logger);
    if (onProgress !== undefined && typeof onProgress !== 'function') throw invalidConfig('onProgress', 'must be a function');
    checkGuardianPath(guardianPath);
    return { envsDir, logger, onProgress, guardianPath };
  });
}

function checkName(name) {
  const problem =
    NativeManager.nameProblem(name) ?? (name === LOCKS ? `must not be ${LOCKS}: the folder of the installers' locks` : undefined);
  if (problem) throw invalidConfig('pluginName', problem, name);
  return name;
}

/** The arguments of ensureDependencies, each read once. */
function checkRequest(pluginName, pluginPath, runtime, dependencies) {
  const fail = (field, problem) => {
    throw invalidConfig(field, problem, pluginName);
  };
  checkName(pluginName);
  const problem = NativeManager.pathProblem(pluginPath);
  if (problem) fail('pluginPath', problem);
  if (!RUNTIMES.includes(runtime)) fail('runtime', `must be one of ${RUNTIMES.map((each) => `'${each}'`).join(', ')}`);
  return guarded('dependencies', pluginName, () => {
    if (typeof dependencies !== 'object' || dependencies === null) fail('dependencies', 'must be an object with a file');
    const { file, install_command: command } = dependencies;
    checkText(file, 'dependencies.file', fail);
    // A manifest has null for what it leaves out.
    if (command !== undefined && command !== null) checkText(command, 'dependencies.install_command', fail);
    return { pluginName, pluginPath, runtime, file: path.resolve(pluginPath, file), command: command ?? undefined };
  });
}

function checkText(value, field, fail) {
  if (value === undefined) fail(field, 'is required and must be a string');
  if (typeof value !== 'string') fail(field, 'must be a string');
  if (value === '') fail(field, 'must not be empty');
  if (value.includes('\0')) fail(field, 'must not contain NUL');
}

module.exports = { LOCKS, checkName, checkRequest, environmentOptions };
