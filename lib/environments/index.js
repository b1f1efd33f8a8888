'use strict';
// What the methods of PluginEnvironmentManager do. index.js has the class, so that this folder is read at the first use only.

const { accessSync } = require('node:fs');
const { lstat } = require('node:fs/promises');
const path = require('node:path');

const { wantsDebug, writeEntry } = require('../logger.js');
const { abortSignal, isAborted, reasonOf, unreadable } = require('../options.js');
const { checkName, checkRequest, environmentOptions } = require('./checks.js');
const { install, waitNote } = require('./installation.js');
const { run } = require('./installer.js');
const marker = require('./marker.js');
const { REMOVE } = require('./scripts.js');

class Environments {
  #options;

  constructor(options) {
    this.#options = environmentOptions(options);
  }

  async ensureDependencies(pluginName, pluginPath, runtime, dependencies, callOptions) {
    const request = checkRequest(pluginName, pluginPath, runtime, dependencies);
    const signal = abortSignal(callOptions, pluginName);
    if (isAborted(signal)) throw reasonOf(signal, unreadable('options.signal.reason', pluginName));
    const failure = await install(request, this.#placeOf(pluginName), this, signal);
    return failure === undefined;
  }

  async isReady(pluginName) {
    return marker.isReady(this.getEnvPath(pluginName));
  }

  getPythonPath(pluginName) {
    const python = path.join(this.getEnvPath(pluginName), 'bin', 'python3');
    try {
      accessSync(python);
      return python;
    } catch {
      return 'python3';
    }
  }

  getNodeModulesPath(pluginName) {
    return path.join(this.getEnvPath(pluginName), 'node_modules');
  }

  getEnvPath(pluginName) {
    return path.join(this.#options.envsDir, checkName(pluginName));
  }

  async removeEnvironment(pluginName) {
    const place = this.#placeOf(pluginName);
    const onWait = waitNote(pluginName, (level, text, fields) => this.log(level, pluginName, text, fields));
    const failed = { code: 'ERR_IO', path: place.folder };
    const task = { ...place, pluginName, pluginPath: '/', task: 'remove the environment of', failed, onLine() {}, onWait };
    if (!(await exists(place.folder))) return;
    await run(task, async () => ({ script: REMOVE, args: [place.folder] }));
    this.log('info', pluginName, `removed the environment of '${pluginName}'`);
  }

  #placeOf(pluginName) {
    const { envsDir, guardianPath } = this.#options;
    return { folder: this.getEnvPath(pluginName), envsDir, guardianPath };
  }

  /** A line of an installer. */
  progress(pluginName, line) {
    if (wantsDebug(this.#options.logger)) this.log('debug', pluginName, `${pluginName}: ${line}`);
    this.#options.onProgress?.(line, pluginName);
  }

  log(level, pluginName, text, fields = {}) {
    writeEntry(this.#options.logger, { level, text, fields: Object.entries({ pluginName, ...fields }).flat() });
  }
}

const exists = (file) =>
  lstat(file).then(
    () => true,
    (error) => error.code !== 'ENOENT',
  );

module.exports = { Environments };
