'use strict';

/** Every event of a manager, in order. `states` has the changes of one plugin as words. */
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

module.exports = { record };
