'use strict';

// The log of prints-numbered-lines.py: every line once, in order, however often it was rotated.

const fs = require('node:fs');
const path = require('node:path');
const zlib = require('node:zlib');

/** The files of a log, the oldest first: { path, gzip }. */
function logFiles(file) {
  const pattern = new RegExp(`^${path.basename(file).replace(/\./g, '\\.')}(?:\\.(\\d+)(\\.gz)?)?$`);
  const found = fs.readdirSync(path.dirname(file)).map((name) => pattern.exec(name));
  const files = found.filter(Boolean).sort((one, other) => Number(other[1] ?? 0) - Number(one[1] ?? 0));
  return files.map(([name, , gzip]) => ({ path: path.join(path.dirname(file), name), gzip: gzip !== undefined }));
}

/** Every byte of a log, the oldest first: also of its rotated and compressed files. */
function wholeLog(file) {
  const parts = logFiles(file).map((each) => {
    const bytes = fs.readFileSync(each.path);
    return each.gzip ? zlib.gunzipSync(bytes) : bytes;
  });
  return Buffer.concat(parts).toString('latin1');
}

/** The last line of the live file that has a newline. */
function lastLine(file) {
  const { size } = fs.statSync(file, { throwIfNoEntry: false }) ?? { size: 0 };
  const bytes = Buffer.alloc(Math.min(size, 1_000));
  const fd = size > 0 ? fs.openSync(file) : undefined;
  if (fd === undefined) return '';
  try {
    fs.readSync(fd, bytes, 0, bytes.length, size - bytes.length);
  } finally {
    fs.closeSync(fd);
  }
  return bytes.toString('latin1').split('\n').at(-2) ?? '';
}

/** Per process and stream of prints-numbered-lines.py: the number of its lines. Throws if one is missing, doubled or broken. */
function countLines(file, { markers = false } = {}) {
  const next = new Map();
  for (const line of wholeLog(file).split('\n').slice(0, -1)) {
    const match = /^(\d+ (?:out|err)) (?:(\d+) \.{80}|(end))$/.exec(line);
    if (!match && markers && line.startsWith('[ally] ')) continue;
    if (!match) throw new Error(`a broken line: ${line.slice(0, 200)}`);
    const [, key, number, end] = match;
    const expected = next.get(key) ?? 0;
    if (expected === 'ended' || (!end && Number(number) !== expected)) throw new Error(`${key}: ${number ?? end} after ${expected}`);
    next.set(key, end ? 'ended' : expected + 1);
    if (end) next.set(`${key} count`, expected);
  }
  return next;
}

/** Fails unless the log has exactly what that process says it has printed. */
function expectWhole(file, marker, pid) {
  const printed = Number(fs.readFileSync(`${marker}.${pid}`, 'utf8'));
  const counts = countLines(file);
  expect([counts.get(`${pid} out count`), counts.get(`${pid} err count`)]).toEqual([printed, printed]);
}

module.exports = { countLines, expectWhole, lastLine, logFiles, wholeLog };
