'use strict';
// What `run` prints: output with its stream in front, and what happens to the daemon.

const { oneLine } = require('./problems.js');
const { hasColour, stdout } = require('./stdout.js');

const CODES = { stdout: 36, stderr: 35, running: 32, starting: 33, stopping: 33, stopped: 1, error: 31, info: 1 };
const SHORT = { stdout: 'out', stderr: 'err' };

class RunReport {
  #name;
  #socketPath;
  #isJson;
  #colour = hasColour();
  #isHealthy = true;
  /** Since the last state STARTING, for the time that the start took. */
  #startedAt;

  constructor({ pluginName, socketPath }, isJson) {
    this.#name = pluginName;
    this.#socketPath = socketPath;
    this.#isJson = Boolean(isJson);
  }

  /** Warnings that no event tells, such as an unknown key of the manifest. */
  logger = {
    debug() {},
    info() {},
    warn: (text) => this.#ofLogger(text),
    error: (text) => this.#ofLogger(text),
  };

  listen(manager) {
    manager.on('output', ({ stream, line }) => {
      if (this.#isJson) this.#json('output', { stream, line });
      else this.#write(`${this.#paint(stream, `${SHORT[stream]} |`)} ${this.#colour ? line : plain(line)}`);
    });
    manager.on('stateChange', ({ from, to, pid, reason }) => {
      const armed = manager.getProcessInfo(this.#name)?.armed ? true : undefined;
      if (this.#isJson) this.#json('stateChange', { from, to, pid, reason, armed });
      else if (armed) this.#say('stopped', this.#waits);
      else this.#state(to, pid, reason);
    });
    manager.on('exit', ({ pid, code, signal, reason }) => {
      if (this.#isJson) return this.#json('exit', { pid, code, signal, reason });
      const how = signal ? `killed by ${signal}` : code === undefined ? 'ended' : `exited with code ${code}`;
      this.#say('info', `pid ${pid} ${how} (${reason})`);
    });
    manager.on('restart', ({ attempt, delay, reason }) => {
      if (this.#isJson) this.#json('restart', { attempt, delay, reason });
      else this.#say('starting', `restart ${attempt} in ${Math.round(delay)} ms (${reason})`);
    });
    manager.on('health', ({ healthy, latency, failures, error }) => {
      if (this.#isJson) return this.#json('health', { healthy, latency, failures, error });
      // Each check that passes would drown the output.
      if (!healthy) this.#say('error', `health check failed, ${failures} in a row: ${oneLine(error ?? 'no answer')}`);
      else if (!this.#isHealthy) this.#say('running', `health check passes again (${latency.toFixed(1)} ms)`);
      this.#isHealthy = healthy;
    });
  }

  failed(error) {
    if (this.#isJson) this.#json('failed', { code: error.code, message: error.message });
    // The last lines of stderr follow the first line, and were printed before.
    process.stderr.write(`ally-daemons: ${oneLine(error.message.split('\n', 1)[0])}\n`);
  }

  waiting() {
    if (!this.#isJson) this.#say('info', 'waiting for a change of a file');
  }

  changed(files) {
    if (this.#isJson) this.#json('changed', { files });
    else
      this.#say('info', `changed: ${files.slice(0, 3).map(oneLine).join(', ')}${files.length > 3 ? ` and ${files.length - 3} more` : ''}`);
  }

  upgraded(pid) {
    if (this.#isJson) this.#json('upgraded', { pid });
    else if (pid === undefined) this.#say('stopped', `upgraded; ${this.#waits}`);
    else this.#say('running', `upgraded (pid ${pid})`);
  }

  stopping(gracePeriod) {
    if (!this.#isJson) this.#say('stopping', `stopping within ${gracePeriod} ms; Ctrl-C again kills it`);
  }

  killing() {
    if (!this.#isJson) this.#say('error', 'killing it');
  }

  /** Of a plugin on demand that has no process. */
  get #waits() {
    return `waits for a connection to ${oneLine(this.#socketPath)}`;
  }

  #state(to, pid, reason) {
    if (to === 'starting') this.#startedAt = performance.now();
    const took =
      to === 'running' && this.#startedAt !== undefined ? `, ready after ${Math.round(performance.now() - this.#startedAt)} ms` : '';
    const details = to === 'running' ? ` (pid ${pid}${took})` : to === 'stopping' && reason ? ` (${oneLine(reason)})` : '';
    this.#say(to, `${to}${details}`);
  }

  #ofLogger(text) {
    // Each of these is an event too.
    if (/crash|restart|health|giving up|gave up|stopped|exited|failed to start/i.test(text)) return;
    if (this.#isJson) this.#json('warning', { message: oneLine(text) });
    else this.#say('starting', oneLine(text));
  }

  #say(kind, text) {
    this.#write(`${this.#paint(kind, `--- ${this.#name}: ${text}`)}`);
  }

  #paint(kind, text) {
    return this.#colour ? `\u001b[${CODES[kind]}m${text}\u001b[0m` : text;
  }

  #json(event, fields) {
    this.#write(JSON.stringify({ at: new Date().toISOString(), event, pluginName: this.#name, ...fields }));
  }

  #write(line) {
    stdout().write(`${line}\n`);
  }
}

const CONTROLS = /[^\P{Cc}\t]/u;
/**
 * Escape sequences (ECMA-48): CSI, then strings such as a title or a link, then all others. util.stripVTControlCharacters takes the text
 * between a colour and a bell for a part of the sequence.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove
const SEQUENCES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])/g;

/** A line of the daemon without colours and cursor movements: its own ones would reach a file or a terminal with NO_COLOR otherwise. */
function plain(line) {
  if (!CONTROLS.test(line)) return line;
  // A carriage return between two texts, as of a progress bar, separates them. What else is left is part of a sequence that is not whole.
  return line
    .replace(SEQUENCES, '')
    .replace(/\r+(?!$)/g, ' ')
    .replace(/[^\P{Cc}\t]/gu, '');
}

module.exports = { RunReport };
