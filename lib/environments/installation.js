'use strict';
// An installation that all callers of this process share. Other processes wait for its lock.

// Not the global, because a test's fake timers would never run the callback.
const { setImmediate } = require('node:timers');

const { makeError } = require('../errors.js');
const { isAborted, reasonOf } = require('../options.js');
const { printable } = require('../without-addon.js');
const { run } = require('./installer.js');
const { errorMarker, isReady, readMarker } = require('./marker.js');
const { recipeFor } = require('./recipe.js');
const { FAIL } = require('./scripts.js');

const TASK = 'install the environment of';

/** The folder of an environment to the installation that is under way there. */
const underWay = new Map();

/**
 * Resolves to undefined when the environment is ready, and to the error when it could not be made. Rejects with the reason of an
 * aborted signal, after the tree of the installer is gone. `place`: `folder`, `envsDir`, `guardianPath`. `follower`: the
 * Environments of the caller, which gets its entries and lines once, however often it asks.
 */
async function install(request, place, follower, signal) {
  const key = JSON.stringify(request);
  for (;;) {
    const found = underWay.get(place.folder);
    if (found && found.key === key && !found.controller.signal.aborted) return joined(found, follower, signal);
    // Another request may make the environment that this one asks for.
    if (found) await untilAborted(found.settled, signal);
    else if (await isReady(place.folder)) return undefined;
    else if (!underWay.has(place.folder)) begin(key, request, place);
  }
}

function begin(key, request, place) {
  const followers = new Map();
  const tell = {
    line: (line) => tellAll(followers, (follower) => follower.progress(request.pluginName, line)),
    log: (level, text, fields) => tellAll(followers, (follower) => follower.log(level, request.pluginName, text, fields)),
  };
  const controller = new AbortController();
  const installation = { key, followers, controller };
  underWay.set(place.folder, installation);
  installation.outcome = perform(request, place, tell, controller.signal).finally(() => underWay.delete(place.folder));
  installation.settled = installation.outcome.then(
    () => {},
    () => {},
  );
}

/** The error of a listener or a logger is an uncaught one, as that of each listener, and disturbs no installation. */
function tellAll(followers, tell) {
  for (const follower of followers.keys()) {
    try {
      tell(follower);
    } catch (error) {
      setImmediate(() => {
        throw error;
      });
    }
  }
}

/** Waits for an installation. It is aborted with the last of its callers. */
async function joined({ followers, controller, outcome, settled }, follower, signal) {
  followers.set(follower, (followers.get(follower) ?? 0) + 1);
  try {
    return await untilAborted(outcome, signal);
  } catch (error) {
    if (!isAborted(signal)) throw error;
    leave(followers, follower);
    if (followers.size === 0) {
      controller.abort();
      await settled;
    }
    throw error;
  }
}

function leave(followers, follower) {
  const count = followers.get(follower) - 1;
  if (count > 0) followers.set(follower, count);
  else followers.delete(follower);
}

/** Settles as `promise`, or rejects with the reason of the signal, whichever comes first. */
function untilAborted(promise, signal) {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(reasonOf(signal, new Error('aborted')));
    if (isAborted(signal)) return abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

async function perform(request, place, tell, signal) {
  const { pluginName, pluginPath, runtime } = request;
  const begun = performance.now();
  const common = {
    ...place,
    pluginName,
    task: TASK,
    signal,
    onLine: tell.line,
    onWait: waitNote(pluginName, tell.log),
  };
  let seen = await readMarker(place.folder);
  try {
    tell.log('info', `installing the environment of '${pluginName}' (${runtime})`, { runtime });
    let remarked = false;
    await run({ ...common, pluginPath }, async () => {
      seen = await readMarker(place.folder);
      if (await isReady(place.folder)) return undefined;
      const { remarks, ...recipe } = await recipeFor(request, place.folder, seen);
      if (!remarked) for (const remark of remarks) tell.log('warn', `the environment of '${pluginName}': ${remark}`);
      remarked = true;
      return recipe;
    });
    seen = await readMarker(place.folder);
    if (!(await isReady(place.folder))) throw notReady(pluginName, place.folder);
    const ms = Math.round(performance.now() - begun);
    tell.log('info', `installed the environment of '${pluginName}' in ${ms} ms`, { ms });
    return undefined;
  } catch (error) {
    if (signal.aborted) throw error;
    tell.log('error', error.message, detailsOf(error));
    await noteFailure(common, seen, error);
    return error;
  }
}

/** Another program has changed the environment since, or its marker is no text. */
function notReady(pluginName, folder) {
  const message = printable(`Failed to ${TASK} '${pluginName}': the installer exited with code 0, and ${folder} is not ready`);
  return makeError({ code: 'ERR_IO', message, pluginName, path: folder });
}

/** Says once that another process has the lock. */
function waitNote(pluginName, log) {
  let said = false;
  return (pid) => {
    if (!said) log('info', `the environment of '${pluginName}' is being changed by process ${pid}: waiting for its end`, { pid });
    said = true;
  };
}

function detailsOf({ code, errno, syscall, path, exitCode, signal, stderr }) {
  const all = { code, errno, syscall, path, exitCode, signal, stderr };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** Writes the marker of a failure. If that fails too, the first error is the one that counts. */
async function noteFailure(common, seen, error) {
  const { pluginName, folder } = common;
  let tried = false;
  await run({ ...common, pluginPath: '/', onLine() {}, onWait() {} }, async () => {
    // The marker of another process that has the lock now will tell more.
    if (tried) return undefined;
    tried = true;
    return { script: FAIL, args: [folder, seen, errorMarker(pluginName, error.message)] };
  }).catch(() => {});
}

module.exports = { install, waitNote };
