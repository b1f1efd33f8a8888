'use strict';

const fs = require('node:fs');
const { identify } = require('../helpers/proc');
const { runsAnew } = require('../helpers/runs-anew');
const { until } = require('../helpers/until');

const EXACT = { jitter: 0 };

/** Kills the leader, and waits until the manager knows. */
async function crash(manager, name = 'plugin') {
  const daemon = identify(manager.getPid(name));
  process.kill(daemon.pid, 'SIGKILL');
  await until(() => manager.getPid(name) !== daemon.pid, 5_000, 'the crash is seen');
  return daemon;
}

const runningAgain = (manager, old, name = 'plugin') => until(() => runsAnew(manager, name, old.pid), 15_000, 'it runs again');

const starts = (counter) => Number(fs.readFileSync(counter, 'utf8'));

module.exports = { EXACT, crash, runningAgain, starts };
