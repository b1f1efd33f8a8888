'use strict';
// Errors are made here, in JavaScript: native code would make them in the realm that loaded the addon first, and
// `instanceof Error` then fails under jest and in vm contexts. Their texts come from src/error.rs.

const { NativeManager } = require('../native.js');

const DETAILS = ['code', 'pluginName', 'pid', 'exitCode', 'signal', 'errno', 'syscall', 'path', 'stderr'];

/** An Error that carries those of the details that are known, as enumerable properties. */
function makeError(failure) {
  const { message, cause, causes } = failure;
  // Like `cause` of Node's own errors, these two are not enumerable.
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
    // Native code may say null for what is not there.
    if (failure[key] !== undefined && failure[key] !== null) error[key] = failure[key];
  }
  // The stack begins with the caller; where the error was put together helps nobody.
  Error.captureStackTrace?.(error, makeError);
  return error;
}

/** `FIELD PROBLEM` reads as a sentence: "pluginPath must be an absolute path". */
function invalidConfig(field, problem, pluginName) {
  const error = makeError(NativeManager.invalidConfig(field, problem, typeof pluginName === 'string' ? pluginName : undefined));
  Error.captureStackTrace?.(error, invalidConfig);
  return error;
}

/** For options and methods that this version declares and does not have. */
function notSupported(name, pluginName) {
  const error = invalidConfig(name, 'is not supported yet', pluginName);
  Error.captureStackTrace?.(error, notSupported);
  return error;
}

module.exports = { invalidConfig, makeError, notSupported };
