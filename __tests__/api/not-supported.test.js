'use strict';

const fs = require('node:fs');
const { failure } = require('../helpers/promises');
const { useWorld } = require('../helpers/use-world');
const { problemOf } = require('../config/samples');

const world = useWorld();

const expectRefused = (error, what) => {
  expect(error).toBeInstanceOf(Error);
  expect(error.code).toBe('ERR_INVALID_CONFIG');
  expect(problemOf(error)).toBe(`${what} is not supported yet`);
};

test.each([['shared: true', () => ({ shared: true }), 'shared']])(
  'not supported yet: startProcess refuses %s with ERR_INVALID_CONFIG',
  async (_, option, field) => {
    const manager = world.manager();
    const error = await failure(manager.startProcess({ ...world.config(), ...option() }));
    expectRefused(error, field);
    expect(error.pluginName).toBe('plugin');
    expect(manager.listProcesses()).toEqual([]);
    expect(fs.existsSync(world.envsDir)).toBe(false);
  },
);
