'use strict';

const fs = require('node:fs');

function useReport(world) {
  /** Starts reports-its-process.py and returns its report. */
  async function report(manager, changes = {}, fixture = []) {
    const file = world.path('report');
    const config = world.config('plugin', ['reports-its-process.py', file, ...fixture], changes);
    await manager.startProcess(config);
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  }

  return { report };
}

module.exports = { useReport };
