'use strict';
// stdout of all verbs. To make process.stdout takes 3 ms, 5 ms for a terminal, so a short answer to a pipe or a file does without it.

const { fstatSync, statSync, writeSync } = require('node:fs');

const STDOUT = 1;
let stream;
let isUnread = false;

/** process.stdout. For who needs to wait for a slow reader, and for terminals. */
function stdout() {
  if (stream === undefined) {
    stream = process.stdout;
    stream.on('error', failed);
  }
  return stream;
}

/** Writes the text. It blocks while the reader of a pipe is slow. Without a reader the verb goes on, so that its exit code is right. */
function print(text) {
  if (isUnread) return;
  if (stream !== undefined || mayBeTerminal()) return void stdout().write(text);
  let rest = Buffer.from(text);
  try {
    while (rest.length > 0) rest = rest.subarray(writeSync(STDOUT, rest));
  } catch (error) {
    // A pipe that another process has made non-blocking is full. The stream can wait.
    if (error.code === 'EAGAIN') stdout().write(rest);
    else if (error.code === 'EPIPE') isUnread = true;
    else failed(error);
  }
}

const isTerminal = () => mayBeTerminal() && Boolean(stdout().isTTY);

/** Whether stdout may get colours: a terminal that knows them, and no NO_COLOR (https://no-color.org). */
const hasColour = () => isTerminal() && process.env.TERM !== 'dumb' && !process.env.NO_COLOR;

let isDevice;

/** Whether it is a character device other than /dev/null. */
function mayBeTerminal() {
  if (isDevice === undefined) {
    const stat = fstatSync(STDOUT);
    isDevice = stat.isCharacterDevice() && stat.rdev !== statSync('/dev/null').rdev;
  }
  return isDevice;
}

/** The reader of a pipe has gone (`ally-daemons logs -f a | head -1`): nothing is left to say. */
function failed(error) {
  if (error.code !== 'EPIPE') require('./problems.js').problem(`stdout: ${error.message}`);
  process.exit(error.code === 'EPIPE' ? (process.exitCode ?? 0) : 1);
}

/** False if the reader of a pipe has gone. */
const hasReader = () => !isUnread;

module.exports = { hasColour, hasReader, isTerminal, print, stdout };
