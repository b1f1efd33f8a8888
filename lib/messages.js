'use strict';

/** Delivers messages in order, one at a time. If a listener throws, delivery goes on in the next turn of the event loop. */
class Inbox {
  #deliver;
  #nextTurn;
  /** Messages that are not delivered yet. */
  #waiting = [];

  /** `nextTurn`: runs a function in the next turn of the event loop. */
  constructor(deliver, nextTurn) {
    this.#deliver = deliver;
    this.#nextTurn = nextTurn;
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
        // A listener threw. The error goes to the caller, and the rest is delivered in the next turn.
        this.#waiting = messages.slice(next).concat(this.#waiting);
        this.#nextTurn(() => this.#deliverAll());
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

/** The payload of an event. If the message is no event: undefined. */
function payloadOf(message) {
  const keys = EVENTS[message.kind];
  if (keys === undefined) return undefined;
  // Absent values are omitted: an event has no `pid: undefined`.
  const present = keys.filter((key) => message[key] !== undefined && message[key] !== null);
  const payload = Object.fromEntries(present.map((key) => [key, message[key]]));
  if (message.kind === 'stateChange') payload.at = new Date(message.at);
  return payload;
}

module.exports = { Inbox, payloadOf };
