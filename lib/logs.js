'use strict';
// The iterator of `logs()`. A follower of the native manager has the lines.

const { invalidConfig } = require('./errors.js');
const { abortSignal, isAborted, readOption } = require('./options.js');

/** The tail has at most so many lines. */
const ALL = 1000;
/** The lines per turn of the event loop. */
const BATCH = 256;

function logOptions(options, pluginName) {
  const wrong = (name, problem) => invalidConfig(`options.${name}`, problem, pluginName);
  const lines = readOption(options, 'lines', 'options.lines', pluginName) ?? ALL;
  if (typeof lines !== 'number') throw wrong('lines', `must be a whole number of lines, got ${kindOf(lines)}`);
  if (!(Number.isInteger(lines) && lines >= 0)) throw wrong('lines', `must be a whole number of lines from 0 upwards, got ${lines}`);
  const follow = readOption(options, 'follow', 'options.follow', pluginName) ?? false;
  if (typeof follow !== 'boolean') throw wrong('follow', `must be a boolean, got ${kindOf(follow)}`);
  return { lines: Math.min(lines, ALL), follow, signal: abortSignal(options, pluginName) };
}

const kindOf = (value) => (Array.isArray(value) ? 'an array' : typeof value === 'object' ? 'an object' : `a ${typeof value}`);

class LogIterator {
  #follower;
  #id;
  #signal;
  /** The iterators that wait for lines, by the number of their follower. */
  #followers;
  /** Runs a function in the next turn of the event loop. It refers to the manager, which must not be garbage-collected now. */
  #nextTurn;
  /** Lines that were read and not asked for yet, the newest first. */
  #lines = [];
  /** The resolve of each call of next() that waits. */
  #waiting = [];
  /** Whether lines were read before. */
  #began = false;
  #ended = false;

  constructor(follower, signal, { followers, nextTurn }) {
    this.#nextTurn = nextTurn;
    this.#follower = follower;
    this.#id = follower.id;
    this.#followers = followers;
    this.#signal = signal;
    if (isAborted(signal)) this.#end();
    else {
      try {
        signal?.addEventListener('abort', this.#abort, { once: true });
      } catch {
        // If addEventListener throws, the signal is ignored.
      }
    }
  }

  next() {
    // The lines that were kept are read at once: an event loop with nothing to do would end before a message comes.
    if (!this.#began) this.#take(ALL + 1);
    if (this.#waiting.length === 0 && this.#lines.length > 0) return Promise.resolve(entry(this.#lines.pop()));
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => {
      if (this.#waiting.push(resolve) === 1) this.#want();
    });
  }

  return(value) {
    this.#end();
    return Promise.resolve({ value, done: true });
  }

  throw(error) {
    this.#end();
    return Promise.reject(error);
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** Called if there are lines, or the end. */
  read() {
    this.#take(BATCH);
    while (this.#waiting.length > 0 && this.#lines.length > 0) this.#waiting.shift()(entry(this.#lines.pop()));
    this.#followers.delete(this.#id);
    if (this.#waiting.length > 0 && !this.#ended) this.#want();
  }

  /**
   * In the next turn of the event loop, even if there are lines. A message of the addon is no turn of its own, so a flood would
   * keep timers and sockets from their callbacks.
   */
  #want() {
    this.#followers.set(this.#id, this);
    this.#nextTurn(() => this.#follower.want());
  }

  #take(most) {
    this.#began = true;
    const { lines, dropped, ended } = this.#follower.take(most);
    for (let index = lines.length; index-- > 0; ) {
      const { stream, line, at, pid } = lines[index];
      this.#lines.push({ stream, line, at: new Date(at), pid });
    }
    if (dropped > 0) this.#lines.push({ dropped });
    if (ended) this.#close();
  }

  #abort = () => this.#end();

  /** The caller wants no more lines. */
  #end() {
    this.#lines = [];
    this.#close();
  }

  #close() {
    if (this.#ended) return;
    this.#ended = true;
    this.#follower.close();
    this.#followers.delete(this.#id);
    for (const resolve of this.#waiting.splice(this.#lines.length)) resolve({ value: undefined, done: true });
    try {
      this.#signal?.removeEventListener?.('abort', this.#abort);
    } catch {
      // As in the constructor.
    }
  }
}

Object.defineProperty(LogIterator.prototype, Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose'), {
  value() {
    return this.return().then(() => undefined);
  },
  writable: true,
  configurable: true,
});

const entry = (value) => ({ value, done: false });

module.exports = { LogIterator, logOptions };
