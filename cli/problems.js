'use strict';

/** The request can't be carried out. The message is one sentence, without a full stop. */
class Failed extends Error {}

/** The command line is wrong. `help`: the command that shows the right usage. */
class UsageError extends Error {
  constructor(message, verb) {
    super(message);
    this.help = verb === undefined ? 'ally-daemons --help' : `ally-daemons ${verb} --help`;
  }
}

/** One sentence on stderr. */
function problem(sentence) {
  process.stderr.write(`ally-daemons: ${oneLine(sentence)}\n`);
}

/** Escape sequences, and characters that show nothing or reorder what is shown. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove
const HIDDEN = /\x1b\[[ -?]*[@-~]?|[\p{Cf}\p{Cs}]/gu;

/** A text of another program, such as an error with the last lines of stderr, in one line. */
function oneLine(text) {
  return String(text)
    .replace(HIDDEN, '')
    .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
    .trim();
}

module.exports = { Failed, UsageError, oneLine, problem };
