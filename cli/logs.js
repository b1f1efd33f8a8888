'use strict';

const { lastLines, logFiles } = require('./log-files.js');
const { rowOf } = require('./plugins.js');
const { Failed, UsageError, problem } = require('./problems.js');
const { stdout } = require('./stdout.js');

/** How long the next host is awaited. Sessions start it as soon as they see the end of the former one. */
const NEXT_HOST_LIMIT = 10_000;
/** No event tells of a host that begins. */
const LOOK_INTERVAL = 50;

async function logs({ operands: [name], options, envsDir }) {
  const count = lineCount(options.lines);
  const { logFile, owner, problem: unobserved, lastError } = rowOf(envsDir, name);
  if (unobserved !== null) throw new Failed(unobserved);
  const write = options.json ? jsonWriter() : async (bytes) => void (await flushed(bytes));
  const isOfHost = logFile === null && owner?.kind === 'shared';
  // It is suspended, or of another build.
  if (isOfHost && owner.sessions === null && lastError !== null) throw new Failed(`${name}: ${lastError}`);
  if (isOfHost) return outputOfHost(envsDir, name, count, { host: owner.pid, follow: options.follow, write });
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

/** What the host keeps of the output, both streams in their order. With `follow` also what the hosts after a killed one keep. */
async function outputOfHost(envsDir, name, count, { host, follow, write }) {
  const { leftovers } = require('./leftovers.js');
  const asked = leftovers(envsDir, { signals: false });
  let lines = count;
  for (let current = host; current !== undefined; lines = Number.POSITIVE_INFINITY) {
    for await (const { lines: batch, dropped } of asked.output(name, lines, Boolean(follow))) {
      if (dropped > 0) problem(`${dropped} lines are missing here`);
      await write(Buffer.from(batch.map(({ line }) => `${line}\n`).join('')));
    }
    current = follow ? await nextHost(envsDir, name, current) : undefined;
  }
  await write.end?.();
}

/**
 * The host that has the plugin after this one was killed. Undefined if it was not killed: the plugin was forgotten. The output of the
 * next host begins with its own first line, so none is printed twice.
 */
async function nextHost(envsDir, name, former) {
  const { setTimeout: sleep } = require('node:timers/promises');
  const { isHostSocket, hostBelow } = require('./host.js');
  // Until its sessions have seen the end of the host.
  for (let waited = 0; waited <= NEXT_HOST_LIMIT; waited += LOOK_INTERVAL) {
    const host = isHostSocket(envsDir) ? hostBelow(envsDir) : undefined;
    // A host that leaves removes its socket.
    if (host === undefined || (host?.pid === former && host.problem === null)) return undefined;
    if (host?.plugins.some(({ pluginName }) => pluginName === name)) {
      problem(`the host of ${name} was killed, and its last lines may be missing here`);
      return host.pid;
    }
    await sleep(LOOK_INTERVAL);
  }
  throw new Failed(`${name}: its host, process ${former}, was killed, and no session has started it again`);
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
