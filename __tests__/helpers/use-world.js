'use strict';

// A World for jest, and what its tests expect of it.

const fs = require('node:fs');
const { alive } = require('./proc');
const { until } = require('./until');
const { World } = require('./world');

/** A World for each test of the file that calls this. */
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

/** After a stop or a failed start: at once, without waiting. */
function expectNothingLeft(world, name, processes = []) {
  expect(processes.filter(alive)).toEqual([]);
  expect(fs.existsSync(world.pidFile(name))).toBe(false);
  expect(fs.existsSync(world.socket(name))).toBe(false);
}

/** After a daemon that ended by itself: the files follow the state, only a stop promises both at once. */
async function expectCleared(world, name, processes = []) {
  await until(() => !fs.existsSync(world.pidFile(name)) && !fs.existsSync(world.socket(name)));
  expect(processes.filter(alive)).toEqual([]);
}

module.exports = { expectCleared, expectNothingLeft, useWorld };
