'use strict';

const fs = require('node:fs');

function useReport(world) {
  /** Starts a daemon that reports what it was given, and returns the report. */
  async function report(manager, changes = {}, fixture = []) {
    const file = world.path('report');
    const config = world.config('plugin', ['reports-its-process.py', file, ...fixture], changes);
    await manager.startProcess(config);
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  }

  return { report };
}

module.exports = { useReport };
