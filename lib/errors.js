'use strict';

// Errors are made here, in JavaScript: native code would make them in the realm that loaded the
// addon first, and `instanceof Error` then fails under jest and in vm contexts.

// Control characters, and the marks that reverse the direction of text: either could rewrite the
// terminal of whoever reads the message.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

// eslint-disable-next-line no-control-regex
const CONTROL_SEQUENCE = /\u001b\[[0-?]*[ -/]*[@-~]?/g;

/** The same as `printable` in src/error.rs. */
function printable(text) {
  return text.replace(/\t/g, ' ').replace(CONTROL_SEQUENCE, '').replace(UNPRINTABLE, '');
}

/** An Error that carries those of the details that are known, as enumerable properties. */
function makeError({ code, message, pluginName, pid, exitCode, signal, stderr }) {
  const error = new Error(message);
  for (const [key, value] of Object.entries({ code, pluginName, pid, exitCode, signal, stderr })) {
    // Native code may say null for what is not there.
    if (value !== undefined && value !== null) error[key] = value;
  }
  // The stack begins with the caller; where the error was put together helps nobody.
  Error.captureStackTrace?.(error, makeError);
  return error;
}

/** `FIELD PROBLEM` reads as a sentence: "pluginPath must be an absolute path". */
function invalidConfig(field, problem, pluginName) {
  const known = typeof pluginName === 'string' && pluginName !== '';
  // What is left of a name made of control characters alone is no name to show.
  const shown = known ? printable(pluginName) : '';
  const where = shown === '' ? '' : ` for background process '${shown}'`;
  const error = makeError({
    code: 'ERR_INVALID_CONFIG',
    message: `Invalid configuration${where}: ${field} ${problem}`,
    pluginName: known ? pluginName : undefined,
  });
  Error.captureStackTrace?.(error, invalidConfig);
  return error;
}

module.exports = { makeError, invalidConfig, printable };
