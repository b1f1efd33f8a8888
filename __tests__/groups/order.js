'use strict';

/** A configuration in a group, with its dependencies. */
const member = (world, name, dependsOn = [], fixture = ['serves.py'], changes = {}) =>
  world.config(name, fixture, { dependsOn, group: 'search', ...changes });

/** The names of the plugins in the order in which they reached a state. */
function reached(manager, state) {
  const names = [];
  manager.on('stateChange', ({ pluginName, to }) => to === state && names.push(pluginName));
  return names;
}

/** The states by name, undefined for an unknown plugin. */
const states = (manager, ...names) => Object.fromEntries(names.map((name) => [name, manager.getState(name)]));

module.exports = { member, reached, states };
