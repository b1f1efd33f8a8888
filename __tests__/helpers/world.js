'use strict';

// One test's world: a folder of its own, the managers made in it, the programs started in it. When it ends it stops
// everything, and fails the test if a process is left over.

const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { execFileSync, spawn } = require('node:child_process');
const { BackgroundProcessManager } = require('../..');
const { Owner } = require('./owner');
const { alive, identify, mentioning, signal } = require('./processes');
const { until } = require('./until');

const DAEMONS = path.join(__dirname, '..', 'fixtures', 'daemons');
const PYTHON = process.env.TEST_PYTHON ?? 'python3';

/** The arguments that have Python run a fixture. -S -E: in half the time, and blind to PYTHONUNBUFFERED. */
const script = (name, ...args) => ['-S', '-E', '-B', path.join(DAEMONS, name), ...args.map(String)];

class World {
  constructor() {
    // Short, because a socket path has 107 bytes.
    this.dir = fs.realpathSync(fs.mkdtempSync('/tmp/bpm-'));
    /** Not there until a manager makes it. */
    this.envsDir = path.join(this.dir, 'envs');
    this.pluginPath = path.join(this.dir, 'plugin');
    this.managers = [];
    this.programs = [];
    this.extras = [];
    fs.mkdirSync(this.pluginPath);
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

  /** The folder for what a test puts there before the first start. */
  makeFolder(name) {
    fs.mkdirSync(this.folder(name), { recursive: true, mode: 0o700 });
    return this.folder(name);
  }

  manager(options) {
    const manager = new BackgroundProcessManager({ envsDir: this.envsDir, ...options });
    this.managers.push(manager);
    return manager;
  }

  /** A whole configuration: `fixture` is the script's name and its arguments. */
  config(name = 'plugin', fixture = ['willing.py'], changes = {}) {
    return {
      pluginName: name,
      pluginPath: this.pluginPath,
      command: PYTHON,
      args: fixture.length > 0 ? script(...fixture) : [],
      socketPath: this.socket(name),
      startupTimeout: 15_000,
      shutdownGracePeriod: 2_000,
      ...changes,
    };
  }

  /** Starts a fixture beside the managers, as another program would. Ends with this world. */
  program(fixture, { socketPath = this.path('program.sock'), ...options } = {}) {
    const child = spawn(PYTHON, script(...fixture), {
      cwd: this.pluginPath,
      env: { ...process.env, SOCKET_PATH: socketPath, TEST_WORLD: this.dir },
      stdio: 'ignore',
      ...options,
    });
    this.programs.push(child);
    return identify(child.pid);
  }

  /** The same, but nobody's child: its parent is gone. */
  orphan(fixture, { socketPath = this.path('program.sock'), cwd = this.pluginPath } = {}) {
    const pid = execFileSync('/bin/sh', ['-c', '"$@" </dev/null >/dev/null 2>&1 & echo $!', 'sh', PYTHON, ...script(...fixture)], {
      cwd,
      env: { ...process.env, SOCKET_PATH: socketPath, TEST_WORLD: this.dir },
      encoding: 'utf8',
    });
    const orphan = identify(Number(pid));
    this.finally(() => signal(orphan, 'SIGKILL'));
    return orphan;
  }

  owner(name, order, { env, ...options } = {}) {
    const owner = new Owner(
      name,
      { envsDir: this.envsDir, ...order },
      {
        cwd: this.dir,
        env: { ...process.env, TEST_WORLD: this.dir, ...env },
        ...options,
      },
    );
    this.programs.push(owner.child);
    return owner;
  }

  /** Has something undone at the end, also when the test fails. */
  finally(undo) {
    this.extras.unshift(undo);
  }

  /** The pids that family.py wrote, by kind. */
  async family(marker) {
    await until(() => fs.existsSync(marker), 10_000, `${marker} exists`);
    const members = {};
    for (const line of fs.readFileSync(marker, 'utf8').trim().split('\n')) {
      const [kind, pid] = line.split(' ');
      members[kind] = identify(Number(pid));
    }
    return members;
  }

  async end() {
    for (const undo of this.extras) await undo();
    await Promise.all(this.managers.map((manager) => manager.stopAllProcesses()));
    for (const child of this.programs) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');

    // Daemons whose owner was just killed get the time that is promised for that.
    let left = [];
    try {
      // Twice: one that is forked during a look, by one that then ends, is found by the next.
      const look = () => (left = mentioning(this.dir)).length === 0;
      await until(() => look() && look(), 5_000);
    } catch {
      left = left.map((process) => ({ ...process, command: commandOf(process.pid) }));
      for (const process of left) signal(process, 'SIGKILL');
    }
    fs.rmSync(this.dir, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`left running:\n${left.map(({ pid, command }) => `${pid} ${command}`).join('\n')}`);
  }
}

function commandOf(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '(gone)';
  }
}

/** A world for each test of the file that calls this. */
function useWorld() {
  const current = {};
  beforeEach(() => {
    current.world = new World();
  });
  afterEach(() => current.world.end());
  return new Proxy(current, {
    get: (_, key) => {
      const value = current.world[key];
      return typeof value === 'function' ? value.bind(current.world) : value;
    },
  });
}

/** Everything a manager emits, in order. `states` are the changes of one plugin as words. */
function record(manager) {
  const events = [];
  for (const type of ['stateChange', 'exit', 'restart', 'health']) {
    manager.on(type, (event) => events.push({ type, ...event }));
  }
  return {
    all: events,
    of: (type, name) => events.filter((event) => event.type === type && (name === undefined || event.pluginName === name)),
    states: (name) => events.filter((event) => event.type === 'stateChange' && event.pluginName === name).map(({ to }) => to),
  };
}

/** Whether somebody takes a connection there. */
function connects(socketPath) {
  return new Promise((resolve) => {
    const client = net.connect(socketPath);
    client.on('connect', () => resolve(true)).on('error', () => resolve(false));
    client.on('connect', () => client.destroy());
  });
}

/** After a stop or a failed start: now, not soon. */
function expectNothingLeft(world, name, processes = []) {
  expect(processes.filter(alive)).toEqual([]);
  expect(fs.existsSync(world.pidFile(name))).toBe(false);
  expect(fs.existsSync(world.socket(name))).toBe(false);
}

/** After a daemon that went by itself: the files follow the state, only a stop promises both at once. */
async function expectCleared(world, name, processes = []) {
  await until(() => !fs.existsSync(world.pidFile(name)) && !fs.existsSync(world.socket(name)));
  expect(processes.filter(alive)).toEqual([]);
}

module.exports = { DAEMONS, PYTHON, connects, expectCleared, expectNothingLeft, record, script, useWorld };
