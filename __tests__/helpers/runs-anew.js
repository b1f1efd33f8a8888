'use strict';

/**
 * Whether the plugin runs, and not as the process `pid`. The pid first: between two getters the manager may hear of the end of the
 * process, so `isRunning` may be of before, and the missing pid of after it.
 */
const runsAnew = (manager, name, pid) => manager.getPid(name) !== pid && manager.isRunning(name);

module.exports = { runsAnew };
