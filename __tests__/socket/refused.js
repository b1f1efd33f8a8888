'use strict';

const fs = require('node:fs');
const { failure } = require('../helpers/promises');

function useRefused(world) {
  /** Makes a file as soon as it runs. A Python daemon could be killed before its first line. */
  const counting = (counter) => ({ command: '/bin/sh', args: ['-c', ': > "$0"; sleep 60', counter] });

  /** Expects ERR_SOCKET_IN_USE at once, without a daemon, and returns the error. */
  async function refused(manager, config) {
    const counter = world.path('starts');
    const began = performance.now();
    const error = await failure(
      manager.startProcess({
        ...config,
        ...counting(counter),
        startupTimeout: 20_000,
      }),
    );
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pluginName: config.pluginName });
    expect(error.message).toContain(config.socketPath);
    expect(fs.existsSync(counter)).toBe(false);
    // No daemon was killed before it could make that file.
    expect(manager.getProcessInfo(config.pluginName).lastExit).toBeUndefined();
    expect(manager.getState(config.pluginName)).toBe('error');
    expect(error.message).toContain(manager.getProcessInfo(config.pluginName).lastError);
    expect(manager.getPid(config.pluginName)).toBeUndefined();
    expect(fs.existsSync(world.pidFile(config.pluginName))).toBe(false);
    return error;
  }

  const identity = (file) => {
    const { dev, ino, mode } = fs.lstatSync(file);
    return { dev, ino, mode };
  };

  return { counting, refused, identity };
}

module.exports = { useRefused };
