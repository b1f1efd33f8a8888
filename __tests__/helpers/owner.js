'use strict';

// A program of fixtures/owners: a process of its own with a manager in it. It reports in lines of JSON on stdout.

const path = require('node:path');
const { spawn } = require('node:child_process');
const { until } = require('./until');

const OWNERS = path.join(__dirname, '..', 'fixtures', 'owners');

class Owner {
  constructor(script, order, { env, cwd, before = [], flags = [], detached = false, ipc = false } = {}) {
    const command = [...before, process.execPath, ...flags, path.join(OWNERS, script), JSON.stringify(order)];
    this.errors = '';
    this.lines = [];
    this.rest = '';
    this.requests = 0;
    this.child = spawn(command[0], command.slice(1), {
      cwd,
      env,
      detached,
      stdio: ['ignore', 'pipe', 'pipe', ...(ipc ? ['ipc'] : [])],
    });
    this.child.stdout.setEncoding('utf8').on('data', (text) => this.#read(text));
    this.child.stderr.setEncoding('utf8').on('data', (text) => (this.errors += text));
    this.exited = new Promise((resolve, reject) => {
      this.child.on('error', reject);
      this.child.on('exit', (code, signal) => resolve({ code, signal }));
    });
    // 'close' comes after 'exit', when the output is complete; a daemon that held the pipe open would delay it.
    this.closed = new Promise((resolve) => this.child.on('close', resolve));
  }

  get pid() {
    return this.child.pid;
  }

  get gone() {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  #read(text) {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop();
    for (const line of lines) {
      try {
        this.lines.push(JSON.parse(line));
      } catch {
        this.errors += `(on stdout) ${line}\n`;
      }
    }
  }

  /** The value of `key` in the first line that has it. */
  async says(key, deadline = 15_000) {
    const find = () => this.lines.find((line) => key in line);
    let drained = false;
    this.closed.then(() => (drained = true));
    await until(() => find() || drained, deadline, `the owner says '${key}'\n${this.errors}`);
    const line = find();
    if (!line) throw new Error(`the owner ended without saying '${key}'\n${JSON.stringify(this.lines)}\n${this.errors}`);
    return line[key];
  }

  /** Has an owner that obeys commands do something, and returns the outcome. */
  async asks(verb, ...args) {
    this.requests += 1;
    const id = `${verb}-${this.requests}`;
    this.child.send({ id, verb, args });
    return this.says(id);
  }
}

module.exports = { Owner };
