'use strict';

const { failure } = require('../helpers/promises');
const { expectNothingLeft } = require('../helpers/use-world');

function useRefusal(world) {
  /** Expects ERR_SPAWN with everything that belongs to it, and returns the message. */
  async function refusal(manager, changes) {
    const config = { ...world.config('plugin'), ...changes };
    const error = await failure(manager.startProcess(config));
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'ERR_SPAWN', pluginName: 'plugin' });
    expect(error.message).toMatch(/^Failed to start background process 'plugin': /);
    const info = manager.getProcessInfo('plugin');
    expect(info.state).toBe('error');
    expect(info.pid).toBeUndefined();
    expect(info.restartAttempts).toBe(0);
    expect(error.message).toContain(info.lastError);
    expectNothingLeft(world, 'plugin');
    return error.message;
  }

  return { refusal };
}

module.exports = { useRefusal };
