'use strict';

const { lastLines, logFiles } = require('./log-files.js');
const { rowOf } = require('./plugins.js');
const { Failed, UsageError } = require('./problems.js');
const { stdout } = require('./stdout.js');

async function logs({ operands: [name], options, envsDir }) {
  const count = lineCount(options.lines);
  const { logFile, owner, problem, lastError } = rowOf(envsDir, name);
  if (problem !== null) throw new Failed(problem);
  const write = options.json ? jsonWriter() : async (bytes) => void (await flushed(bytes));
  const isOfHost = logFile === null && owner?.kind === 'shared';
  // It is suspended, or of another build.
  if (isOfHost && owner.sessions === null && lastError !== null) throw new Failed(`${name}: ${lastError}`);
  if (isOfHost) return outputOfHost(envsDir, name, count, { follow: options.follow, write });
  if (logFile === null)
    throw new Failed(`${name} has no log file: its last start had no logs.file, and its output is kept by its owner only`);
  if (!options.follow) {
    // What the daemon writes from now on is left out, so that there are as many lines as were asked for.
    const files = logFiles(logFile).map((file) => (file.number === 0 ? { ...file, end: file.size } : file));
    if (files.length === 0) throw new Failed(`${name}: ENOENT: ${logFile} not found`);
    for await (const bytes of lastLines(logFile, files, count)) await write(bytes);
    await write.end?.();
    return;
  }
  const { follow } = require('./log-follower.js');
  await follow(logFile, count, write);
}

/** What the host keeps of the output, both streams in their order. */
async function outputOfHost(envsDir, name, count, { follow, write }) {
  const { leftovers } = require('./leftovers.js');
  for await (const { lines, dropped } of leftovers(envsDir, { signals: false }).output(name, count, Boolean(follow))) {
    if (dropped > 0) process.stderr.write(`ally-daemons: ${dropped} lines are missing here\n`);
    await write(Buffer.from(lines.map(({ line }) => `${line}\n`).join('')));
  }
  await write.end?.();
}

function lineCount(text) {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (!/^\d+$/.test(text)) throw new UsageError(`-n must be a whole number of lines from 0 upwards, got '${text}'`, 'logs');
  return Number(text);
}

/** Waits for a slow reader, so that a long file is not kept in memory. */
function flushed(bytes) {
  return stdout().write(bytes) ? undefined : new Promise((resolve) => stdout().once('drain', resolve));
}

/** Each line as `{ "line": … }`. */
function jsonWriter() {
  const { StringDecoder } = require('node:string_decoder');
  const decoder = new StringDecoder('utf8');
  let rest = '';
  const print = (lines) => flushed(lines.map((line) => `${JSON.stringify({ line })}\n`).join(''));
  const write = async (bytes) => {
    const lines = (rest + decoder.write(bytes)).split('\n');
    rest = lines.pop();
    if (lines.length > 0) await print(lines);
  };
  /** The last line may have no newline. */
  write.end = async () => {
    rest += decoder.end();
    if (rest !== '') await print([rest]);
  };
  return write;
}

module.exports = { logs };
