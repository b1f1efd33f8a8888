'use strict';
// A plugin's daemon in the foreground, for who writes the plugin.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const { Failed } = require('./problems.js');
const { RunReport } = require('./run-report.js');

// At a Ctrl-C the terminal signals this process, and npx passes the signal on. Two keystrokes are further apart.
const SAME_KEYSTROKE = 150;

async function run({ operands: [folder], options, envsDir }) {
  const pluginPath = realFolder(folder);
  const config = configOf(pluginPath, envsDir);
  return new Run({ pluginPath, envsDir, config, report: new RunReport(config, options.json), watches: options.watch }).start();
}

function realFolder(folder) {
  try {
    return fs.realpathSync(folder);
  } catch (error) {
    throw new Failed(`${folder} can't be entered: ${error.code ?? error.message}`);
  }
}

/** The configuration in the folder's plugin.json. */
function configOf(pluginPath, envsDir) {
  const file = path.join(pluginPath, 'plugin.json');
  let text;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw new Failed(`${file} can't be read: ${error.code ?? error.message}`);
  }
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch (error) {
    throw new Failed(`${file}: ${error.message}`);
  }
  return require('..').configFromManifest(manifest, { pluginPath, envsDir });
}

class Run {
  #pluginPath;
  #envsDir;
  #config;
  #report;
  #watches;
  #manager;
  #watcher;
  /** The upgrade or start that is under way. */
  #changing;
  #isChangedAgain = false;
  #signalledAt;
  #end;
  #ended = new Promise((resolve) => {
    this.#end = resolve;
  });

  constructor({ pluginPath, envsDir, config, report, watches }) {
    this.#pluginPath = pluginPath;
    this.#envsDir = envsDir;
    this.#config = config;
    this.#report = report;
    this.#watches = watches;
  }

  get #name() {
    return this.#config.pluginName;
  }

  /** Resolves to the exit code, when no process of the daemon is left. */
  async start() {
    const { BackgroundProcessManager } = require('..');
    this.#manager = new BackgroundProcessManager({ envsDir: this.#envsDir, logger: this.#report.logger });
    this.#report.listen(this.#manager);
    this.#manager.on('stateChange', ({ to, reason }) => this.#onState(to, reason));
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => this.#onSignal(signal));
    if (this.#watches) {
      const { Watcher } = require('./watcher.js');
      this.#watcher = new Watcher(this.#pluginPath, { ignored: this.#ownFiles(), onChange: (files) => this.#onChange(files) });
    }
    this.#begin(() => this.#manager.startProcess(this.#config));
    const code = await this.#ended;
    this.#watcher?.close();
    await this.#changing;
    await this.#manager.stopAllProcesses();
    // A stop that failed was logged, and left the state ERROR.
    return code === 0 && this.#manager.getState(this.#name) === 'error' && this.#signalledAt !== undefined ? 1 : code;
  }

  /** The daemon writes these, so a change of them is no change of the plugin. */
  #ownFiles() {
    const { socketPath, logs } = this.#config;
    return [socketPath, logs?.file].filter(Boolean);
  }

  #begin(change) {
    this.#changing = this.#attempt(change).finally(() => {
      this.#changing = undefined;
      const isChangedAgain = this.#isChangedAgain && this.#signalledAt === undefined;
      this.#isChangedAgain = false;
      if (isChangedAgain) this.#begin(() => this.#upgrade());
    });
  }

  async #attempt(change) {
    try {
      await change();
    } catch (error) {
      if (this.#signalledAt !== undefined) return;
      this.#report.failed(error);
      if (this.#watches) this.#report.waiting();
      else this.#end(1);
    }
  }

  /** The daemon's own end: out of restarts, or a clean exit without a restart. A failed start is reported by its promise. */
  #onState(to, reason) {
    if (this.#signalledAt !== undefined || this.#changing !== undefined) return;
    if (to === 'error') {
      this.#report.failed(new Error(this.#manager.getProcessInfo(this.#name)?.lastError ?? 'it failed'));
      if (this.#watches) this.#report.waiting();
      else this.#end(1);
    } else if (to === 'stopped' && reason === 'exited' && !this.#manager.getProcessInfo(this.#name)?.armed) {
      if (this.#watches) this.#report.waiting();
      else this.#end(0);
    }
  }

  #onChange(files) {
    if (this.#signalledAt !== undefined) return;
    this.#report.changed(files);
    if (this.#changing !== undefined) this.#isChangedAgain = true;
    else this.#begin(() => this.#upgrade());
  }

  async #upgrade() {
    const config = configOf(this.#pluginPath, this.#envsDir);
    if (config.pluginName !== this.#name) throw new Failed(`the plugin's name is ${config.pluginName} now: run it anew`);
    // A field that is no longer in the manifest must not stay. After a failed upgrade the former configuration is in use.
    const inUse = this.#manager.getProcessInfo(this.#name)?.config ?? {};
    const removed = Object.keys(inUse).filter((key) => !(key in config));
    this.#config = config;
    const changes = { ...Object.fromEntries(removed.map((key) => [key, undefined])), ...config };
    if (this.#manager.getState(this.#name) === undefined) await this.#manager.startProcess(config);
    else await this.#manager.upgradeProcess(this.#name, changes);
    this.#report.upgraded(this.#manager.getPid(this.#name));
  }

  #onSignal(signal) {
    const now = performance.now();
    if (this.#signalledAt === undefined) {
      this.#signalledAt = now;
      this.#report.stopping(this.#config.shutdownGracePeriod);
      // Also ends a start that is under way.
      this.#manager.stopAllProcesses();
      this.#end(signal === 'SIGINT' ? 0 : 128 + os.constants.signals[signal]);
    } else if (now - this.#signalledAt > SAME_KEYSTROKE) {
      this.#killNow();
    }
  }

  /** The stop that is under way ends with the tree. */
  #killNow() {
    this.#report.killing();
    require('../native.js').NativeManager.killTrees();
  }
}

module.exports = { run };
