'use strict';
// What node:diagnostics_channel gets. The channels exist from the first manager on, because a check for subscribers needs them.
// Without a subscriber nothing else is made.

const { channel } = require('node:diagnostics_channel');

/** A TracingChannel is five channels with these names. Versions of Node without `tracingChannel` have the channels as well. */
const tracing = (name) => {
  const [start, end, asyncStart, asyncEnd, error] = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'].map((event) =>
    channel(`tracing:${name}:${event}`),
  );
  return { start, end, asyncStart, asyncEnd, error };
};

const channels = Object.fromEntries(['start', 'stop', 'restart', 'upgrade'].map((call) => [call, tracing(`ally:daemon:${call}`)]));

/** The events that have a channel. */
const plain = { stateChange: channel('ally:daemon:state'), exit: channel('ally:daemon:exit') };

const isTraced = ({ start, end, asyncStart, asyncEnd, error }) =>
  start.hasSubscribers || end.hasSubscribers || asyncStart.hasSubscribers || asyncEnd.hasSubscribers || error.hasSubscribers;

/** Runs `call`, an async function, and tells the subscribers of `name`. `pluginName` may throw or be no text. */
function traced(name, pluginName, call) {
  const own = channels[name];
  return isTraced(own) ? trace(own, contextOf(pluginName), call) : call();
}

function contextOf(pluginName) {
  try {
    const name = pluginName();
    return typeof name === 'string' ? { pluginName: name } : {};
  } catch {
    // The call itself rejects because of this.
    return {};
  }
}

/** As TracingChannel.tracePromise, whose promise would not be of the caller's realm. */
async function trace({ start, end, asyncStart, asyncEnd, error }, context, call) {
  const begin = () => {
    try {
      return call();
    } finally {
      end.publish(context);
    }
  };
  let promise;
  if (start.runStores) promise = start.runStores(context, begin);
  else {
    start.publish(context);
    promise = begin();
  }
  try {
    context.result = await promise;
  } catch (failure) {
    context.error = failure;
    error.publish(context);
    throw failure;
  } finally {
    asyncStart.publish(context);
    asyncEnd.publish(context);
  }
}

/** `payload`: of the event of this kind. */
function publishEvent(kind, payload) {
  const own = plain[kind];
  if (own?.hasSubscribers) own.publish(payload);
}

module.exports = { publishEvent, traced };
