'use strict';

// Not the global: a test's fake timers would keep for themselves what is due.
const { setImmediate } = require('node:timers');

/** Delivers messages in their order, one at a time, also where a listener throws. */
class Inbox {
  #deliver;
  /** Those that are being delivered, and those behind one whose listener threw. */
  #waiting = [];

  constructor(deliver) {
    this.#deliver = deliver;
  }

  add(messages) {
    this.#waiting.push(...messages);
    this.#deliverAll();
  }

  #deliverAll() {
    const messages = this.#waiting;
    this.#waiting = [];
    let next = 0;
    try {
      while (next < messages.length) this.#deliver(messages[next++]);
    } finally {
      if (next < messages.length) {
        // A listener threw, which is the program's affair; the others hear of the rest all the same.
        this.#waiting = messages.slice(next).concat(this.#waiting);
        setImmediate(() => this.#deliverAll());
      }
    }
  }
}

/** The keys of each event's payload. */
const EVENTS = {
  stateChange: ['pluginName', 'from', 'to', 'pid', 'reason'],
  exit: ['pluginName', 'pid', 'code', 'signal', 'reason'],
  restart: ['pluginName', 'attempt', 'delay', 'reason'],
  health: ['pluginName', 'healthy', 'latency', 'failures', 'error'],
  output: ['pluginName', 'stream', 'line'],
};

/** The payload of the event that a message tells of; undefined if it tells of none. */
function payloadOf(message) {
  const keys = EVENTS[message.kind];
  if (keys === undefined) return undefined;
  // Only what is there: an event has no `pid: undefined`.
  const there = keys.filter((key) => message[key] !== undefined && message[key] !== null);
  const payload = Object.fromEntries(there.map((key) => [key, message[key]]));
  if (message.kind === 'stateChange') payload.at = new Date(message.at);
  return payload;
}

module.exports = { Inbox, payloadOf };
