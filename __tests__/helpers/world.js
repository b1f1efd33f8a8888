'use strict';

// The World of a test, a chaos run or a benchmark: a temporary folder with an envsDir, configurations of daemons, the
// managers and programs that were made in it. `end` stops everything and fails if a process is left.

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync, spawn } = require('node:child_process');
const { commandLine, identify, signal, withEnvironment } = require('./proc');
const { until } = require('./until');

const DAEMONS = path.join(__dirname, '..', 'fixtures', 'daemons');

/** The arguments that make Python run a fixture. -S -E: half the start time, and PYTHONUNBUFFERED of the caller has no effect. */
const script = (name, ...args) => ['-S', '-E', '-B', path.join(DAEMONS, name), ...args.map(String)];

class World {
  /** `dir`: an existing or new folder to use; without it a temporary one, named by `prefix`. */
  constructor({ dir, prefix = 'bpm-' } = {}) {
    // Short, because a socket path has at most 107 bytes.
    if (dir === undefined) this.dir = fs.realpathSync(fs.mkdtempSync(`/tmp/${prefix}`));
    else this.dir = dir;
    /** Does not exist until a manager makes it. */
    this.envsDir = path.join(this.dir, 'envs');
    this.pluginPath = path.join(this.dir, 'plugin');
    this.managers = [];
    this.programs = [];
    this.undos = [];
    fs.mkdirSync(this.pluginPath, { recursive: true });
  }

  path(...names) {
    return path.join(this.dir, ...names);
  }

  folder(name) {
    return path.join(this.envsDir, name);
  }

  socket(name) {
    return path.join(this.envsDir, name, 'daemon.sock');
  }

  pidFile(name) {
    return path.join(this.envsDir, name, 'daemon.pid');
  }

  /** The plugin's folder, for files that a test puts there before the first start. */
  makeFolder(name) {
    fs.mkdirSync(this.folder(name), { recursive: true, mode: 0o700 });
    return this.folder(name);
  }

  manager(options) {
    // Loaded here, because a benchmark of other packages must not carry the addon.
    const { BackgroundProcessManager } = require('../..');
    const manager = new BackgroundProcessManager({ envsDir: this.envsDir, ...options });
    this.managers.push(manager);
    return manager;
  }

  /** A complete configuration. `fixture` is the name of a script in fixtures/daemons and its arguments. */
  config(name = 'plugin', fixture = ['serves.py'], changes = {}) {
    return {
      pluginName: name,
      pluginPath: this.pluginPath,
      command: changes.command ?? require('./python').PYTHON,
      args: fixture.length > 0 ? script(...fixture) : [],
      socketPath: this.socket(name),
      startupTimeout: 15_000,
      shutdownGracePeriod: 2_000,
      ...changes,
    };
  }

  /** Starts a fixture without a manager, as another program would. It ends with this World. */
  program(fixture, { socketPath = this.path('program.sock'), ...options } = {}) {
    const child = spawn(require('./python').PYTHON, script(...fixture), {
      cwd: this.pluginPath,
      env: { ...process.env, SOCKET_PATH: socketPath, TEST_WORLD: this.dir },
      stdio: 'ignore',
      ...options,
    });
    this.programs.push(child);
    return identify(child.pid);
  }

  /** The same, but its parent is gone. */
  orphan(fixture, { socketPath = this.path('program.sock'), cwd = this.pluginPath } = {}) {
    const command = [require('./python').PYTHON, ...script(...fixture)];
    const pid = execFileSync('/bin/sh', ['-c', '"$@" </dev/null >/dev/null 2>&1 & echo $!', 'sh', ...command], {
      cwd,
      env: { ...process.env, SOCKET_PATH: socketPath, TEST_WORLD: this.dir },
      encoding: 'utf8',
    });
    const orphan = identify(Number(pid));
    this.killAtEnd(orphan);
    return orphan;
  }

  /** A program of fixtures/owners with a manager in it. */
  owner(name, order, { env, ...options } = {}) {
    const { Owner } = require('./owner');
    const owner = new Owner(
      name,
      { envsDir: this.envsDir, ...order },
      { cwd: this.dir, env: { ...process.env, TEST_WORLD: this.dir, ...env }, ...options },
    );
    this.programs.push(owner.child);
    return owner;
  }

  /** These processes get SIGKILL at the end. */
  killAtEnd(...processes) {
    this.finally(() => {
      for (const process of processes) signal(process, 'SIGKILL');
    });
  }

  /** Sets variables of process.env until the end; undefined removes one. */
  setEnvironment(variables) {
    const set = (name, value) => {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    };
    for (const [name, value] of Object.entries(variables)) {
      const before = process.env[name];
      this.finally(() => set(name, before));
      set(name, value);
    }
  }

  /** Runs `undo` at the end, also when the test fails; the last one first. */
  finally(undo) {
    this.undos.unshift(undo);
  }

  /** The processes below the leader of leads-a-tree.py, by kind, once its marker has their pids. */
  async tree(marker) {
    await until(() => fs.existsSync(marker), 10_000, `${marker} exists`);
    const members = {};
    for (const line of fs.readFileSync(marker, 'utf8').trim().split('\n')) {
      const [kind, pid] = line.split(' ');
      members[kind] = identify(Number(pid));
    }
    return members;
  }

  /** The pid that a fixture wrote to `marker`, as a process, once it is there. */
  async process(marker) {
    return identify(Number(await until(() => fs.existsSync(marker) && fs.readFileSync(marker, 'utf8'), 10_000, `${marker} has a pid`)));
  }

  /** Every process that has this World's folder in its environment and is still there after `patience`; these get SIGKILL. */
  async killSurvivors(patience = 5_000) {
    const scan = () => withEnvironment(this.dir);
    // Two scans: a process that is forked during the first by one that then exits is found by the second.
    await until(() => scan().length === 0 && scan().length === 0, patience, 'no process is left').catch(() => {});
    const left = scan().map((process) => ({ ...process, command: commandLine(process.pid) }));
    for (const process of left) signal(process, 'SIGKILL');
    return left;
  }

  remove() {
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  async end() {
    for (const undo of this.undos) await undo();
    await Promise.all(this.managers.map((manager) => manager.stopAllProcesses()));
    for (const child of this.programs) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    // Daemons whose owner has just been killed get the time that is promised for them.
    const left = await this.killSurvivors();
    this.remove();
    if (left.length > 0) throw new Error(`left running:\n${left.map(({ pid, command }) => `${pid} ${command}`).join('\n')}`);
  }
}

module.exports = { DAEMONS, World, script };
