'use strict';
// Creates the errors. Native code would create them in the realm that loaded the addon first, and `instanceof Error` would
// then fail under jest and in vm contexts. The texts come from crates/core/src/error/text.rs.

const { NativeManager } = require('../native.js');

const DETAILS = ['code', 'pluginName', 'pid', 'exitCode', 'signal', 'errno', 'syscall', 'path', 'stderr'];

/** The errors of this package. Any other error comes from a getter or a proxy of the caller. */
const own = new WeakSet();

/** An Error with the known details as enumerable properties. */
function makeError(failure) {
  const { message, cause, causes } = failure;
  // The constructors of Error and AggregateError make `cause` and `errors` non-enumerable, as in Node's own errors.
  const options = cause?.length > 0 ? { cause: makeError(cause[0]) } : undefined;
  const error =
    causes?.length > 0
      ? new AggregateError(
          [...causes].map((each) => makeError(each)),
          message,
          options,
        )
      : new Error(message, options);
  for (const key of DETAILS) {
    // Native code may return null for an absent value.
    if (failure[key] !== undefined && failure[key] !== null) error[key] = failure[key];
  }
  // The stack begins with the caller instead of this file.
  Error.captureStackTrace?.(error, makeError);
  own.add(error);
  return error;
}

/** Calls `read`, and replaces an error of the caller's getter or proxy: it has no `code`, and its text may contain a secret. */
function guarded(field, pluginName, read) {
  try {
    return read();
  } catch (error) {
    throw own.has(error) ? error : invalidConfig(field, "can't be read: what should give its value throws", pluginName);
  }
}

/** `FIELD PROBLEM` reads as a sentence: "pluginPath must be an absolute path". */
function invalidConfig(field, problem, pluginName) {
  const error = makeError(NativeManager.invalidConfig(field, problem, typeof pluginName === 'string' ? pluginName : undefined));
  Error.captureStackTrace?.(error, invalidConfig);
  return error;
}

/** The error for options and methods that are declared and not built yet. */
function notSupported(name, pluginName) {
  const error = invalidConfig(name, 'is not supported yet', pluginName);
  Error.captureStackTrace?.(error, notSupported);
  return error;
}

/** The error for a method that was called as a plain function, or of another object, such as a Proxy of the manager. */
function withoutManager(method) {
  const error = invalidConfig(method, `was called without its manager: write (...args) => manager.${method}(...args) to pass it on`);
  Error.captureStackTrace?.(error, withoutManager);
  return error;
}

module.exports = { guarded, invalidConfig, makeError, notSupported, withoutManager };
