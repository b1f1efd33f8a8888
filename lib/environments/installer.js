'use strict';
// Runs a script as a daemon that is never ready. So it has the guarantees of a daemon: its tree ends with an abort and with its
// owner, however the owner dies, and a lock admits one tree for a plugin, in all processes. Its exit ends the start.

const { watch } = require('node:fs');
const { lstat } = require('node:fs/promises');
const path = require('node:path');
// Not the globals, because a test's fake timers would never run the callback.
const { clearTimeout, setTimeout } = require('node:timers');

const { PLUGIN_TIMEOUTS } = require('../constants.js');
const { makeError } = require('../errors.js');
const { BackgroundProcessManager } = require('../manager.js');
const { UNPUBLISHED } = require('../options.js');
const { printable } = require('../without-addon.js');
const { LOCKS } = require('./checks.js');
const { searchPath } = require('./programs.js');

const TAIL_LINES = 50;
const TAIL_LENGTH = 8_192;
/** Of them, as many enter the message. */
const SHOWN_LINES = 10;

/** The time until the next try for a lock, while nothing happens in its folder. */
const FIRST_PAUSE = 20;
const LONGEST_PAUSE = 1_000;

/**
 * Resolves when `script` has exited with code 0, and rejects otherwise. `prepare` is called before each try for the lock: it gives
 * `script`, `args` and `envVars`, or undefined when there is nothing to do any more. `task`: for messages. `failed`: the parts of the error
 * for another exit code, if they are not those of a start.
 */
async function run({ pluginName, pluginPath, folder, envsDir, guardianPath, task, failed, signal, onLine, onWait }, prepare) {
  const locks = path.join(envsDir, LOCKS);
  let change;
  try {
    for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      const recipe = await prepare();
      if (recipe === undefined) return;
      await refuseOther(folder, pluginName, task);
      const tail = [];
      const options = { envsDir: locks, guardianPath, [UNPUBLISHED]: true };
      const error = await runOnce(options, configFor(pluginName, pluginPath, recipe), signal, (line) => {
        tail.push(line);
        if (tail.length > TAIL_LINES) tail.shift();
        onLine(line);
      });
      if (error.code === 'ERR_STARTUP_EXIT' && error.exitCode === 0) return;
      if (error.code !== 'ERR_OWNED_ELSEWHERE') throw signal?.aborted ? error : explained(error, { pluginName, task, failed, tail });
      onWait(error.pid);
      change ??= watchFolder(path.join(locks, pluginName));
      if (await change.within(pause, signal)) pause = FIRST_PAUSE;
    }
  } finally {
    change?.end();
  }
}

/** The error with which the start ends in any case. */
async function runOnce(options, config, signal, onLine) {
  const manager = new BackgroundProcessManager(options);
  manager.on('output', ({ line }) => onLine(line));
  try {
    await manager.startProcess(config, { signal });
  } catch (error) {
    return error;
  }
  // Its pattern matches nothing.
  throw new Error('an installer was ready');
}

function configFor(pluginName, pluginPath, { script, args, envVars }) {
  return {
    pluginName,
    pluginPath,
    command: '/bin/sh',
    args: ['-c', script, 'sh', ...args],
    // Nothing listens there, and no probe looks at it.
    socketPath: '/dev/null/none',
    startupTimeout: 2 ** 31 - 1,
    shutdownGracePeriod: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD,
    readiness: { type: 'output', pattern: '[^\\s\\S]' },
    envVars: { SOCKET_PATH: undefined, PATH: searchPath(), ...envVars },
  };
}

/** As for the folder of a daemon, no symlink is followed. */
async function refuseOther(folder, pluginName, task) {
  const found = await lstat(folder).catch(() => undefined);
  if (!found || found.isDirectory()) return;
  const errno = found.isSymbolicLink() ? 'ELOOP' : 'ENOTDIR';
  const message = printable(`Failed to ${task} '${pluginName}': ${errno}: ${folder} is no folder`);
  throw makeError({ code: 'ERR_IO', message, pluginName, errno, syscall: 'open', path: folder });
}

/** The error of the start as one of the task, with the last lines of both streams. */
function explained(error, { pluginName, task, failed, tail }) {
  const { code, errno, syscall, path: file, exitCode, signal } = error;
  const isExit = code === 'ERR_STARTUP_EXIT';
  const how = signal === undefined ? `exited with code ${exitCode}` : `was killed by ${signal}`;
  const shown = tail.slice(-SHOWN_LINES).map((line) => printable(line));
  const reason = isExit
    ? `the installer ${how}${shown.length > 0 ? `: ${shown.join('\n  ')}` : ''}`
    : error.message.replace(/^Failed to start background process '.*?': /s, '');
  const stderr = tail.length > 0 ? tail.join('\n').slice(-TAIL_LENGTH) : undefined;
  const message = `${printable(`Failed to ${task} '${pluginName}': `)}${reason}`;
  return makeError({ code, message, pluginName, exitCode, signal, errno, syscall, path: file, stderr, ...(isExit && failed) });
}

/** Tells of changes in the folder of a lock: its record disappears with the tree of the installer. */
function watchFolder(folder) {
  let changed = false;
  let wake = () => {};
  let watcher;
  try {
    watcher = watch(folder, { persistent: false }, () => {
      changed = true;
      wake();
    });
    watcher.on('error', () => watcher.close());
  } catch {
    // Without a watch (ENOSPC, EMFILE) the pauses alone decide.
  }
  return {
    /** Whether something has changed, after `pause` at the latest. Ends early with an abort. */
    async within(pause, signal) {
      if (!changed && !signal?.aborted) {
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, pause);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
          signal?.addEventListener('abort', wake, { once: true });
        });
        signal?.removeEventListener('abort', wake);
      }
      const seen = changed;
      changed = false;
      return seen;
    },
    end: () => watcher?.close(),
  };
}

module.exports = { run };
