'use strict';
// Follows a log file across rotations. The kernel tells of changes in its folder.

const { closeSync, fstatSync, readSync, readlinkSync, realpathSync, watch } = require('node:fs');
const path = require('node:path');

const { isSame, lastLines, logFiles, nameOf, numberOf, openFile, openIfThere } = require('./log-files.js');
const { Failed, problem } = require('./problems.js');

const CHUNK = 64 * 1024;
const TRIES = 20;

/** Writes the last `count` lines, then each further piece, until the process is ended. */
async function follow(live, count, write) {
  let notify = () => {};
  let isChanged = true;
  const onChange = () => {
    isChanged = true;
    notify();
  };
  // Before the first read, so that no change is missed.
  watchFolder(live, onChange);
  const reader = new Reader(live);
  for await (const bytes of lastLines(live, reader.filesUpToNow(), count)) await write(bytes);
  for (;;) {
    while (isChanged) {
      isChanged = false;
      await reader.readOn(write);
    }
    await new Promise((resolve) => {
      notify = resolve;
      if (isChanged) resolve();
    });
  }
}

function watchFolder(live, onChange) {
  const folder = path.dirname(live);
  try {
    const watcher = watch(folder, { persistent: true }, (_, name) => {
      if (name === null || name.startsWith(path.basename(live))) onChange();
    });
    watcher.on('error', (error) => fail(folder, error));
  } catch (error) {
    throw new Failed(`${folder} can't be watched: ${error.code ?? error.message}`);
  }
}

function fail(folder, error) {
  problem(`${folder} can't be watched any more: ${error.code ?? error.message}`);
  process.exit(1);
}

class Reader {
  #live;
  #fd;
  #offset = 0;

  constructor(live) {
    this.#live = live;
  }

  /** The files for the lines before the first read. The last one ends where `readOn` begins. */
  filesUpToNow() {
    this.#open();
    if (this.#fd === undefined) return logFiles(this.#live).filter(({ number }) => number > 0);
    const open = fstatSync(this.#fd);
    this.#offset = open.size;
    const files = logFiles(this.#live);
    // A rotation since it was opened has given it another name. Newer files are read later.
    const at = files.findIndex((file) => isSame(file, open));
    if (at >= 0) return [...files.slice(0, at), { ...files[at], end: this.#offset }];
    // Removed, or compressed: its lines are read through the open file.
    this.#offset = 0;
    return [];
  }

  /** Writes what is new. After a rotation: the rest of the old file, the files between, then the new one. */
  async readOn(write) {
    if (this.#fd === undefined) {
      this.#open();
      if (this.#fd === undefined) return;
    }
    await this.#drain(write);
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      // What was written between the last read and the rotation.
      await this.#drain(write);
      closeSync(this.#fd);
      this.#fd = next;
      this.#offset = 0;
      await this.#drain(write);
    }
  }

  #open() {
    this.#fd = openIfThere(this.#live);
    this.#offset = 0;
  }

  /** The file that follows the open one. Undefined while the open one is the live one, or while there is no live one. */
  #next(tries = TRIES) {
    for (let number = this.#number(); number !== undefined; ) {
      if (number === 0) return undefined;
      const next = openIfThere(nameOf(this.#live, number - 1, false));
      if (next === undefined) break;
      // A rotation renames the older file first. If that has its name still, the file was the next one.
      const now = this.#number();
      if (now === number) return next;
      closeSync(next);
      number = now;
    }
    return this.#nextListed(tries);
  }

  /** The number in the present name of the open file, on Linux and unless it was compressed, removed or moved away: a short way to the next. */
  #number() {
    try {
      const name = readlinkSync(`/proc/self/fd/${this.#fd}`);
      if (path.dirname(name) !== realpathSync(path.dirname(this.#live))) return undefined;
      return numberOf(path.basename(this.#live), path.basename(name))?.number;
    } catch {
      return undefined;
    }
  }

  #nextListed(tries) {
    const open = fstatSync(this.#fd);
    const files = logFiles(this.#live).filter(({ isCompressed }) => !isCompressed);
    const live = files.at(-1);
    if (live === undefined || live.number > 0 || isSame(live, open)) return undefined;
    // Compressed or removed by now: files between may be missing, and the live one follows.
    const at = files.findIndex((file) => isSame(file, open));
    // It is there all the same, so the listing was wrong.
    if (at < 0 && tries > 0 && this.#number() !== undefined) return this.#next(tries - 1);
    return openFile(this.#live, at < 0 ? live : files[at + 1]);
  }

  async #drain(write) {
    const buffer = Buffer.alloc(CHUNK);
    for (;;) {
      // Truncated by another program, such as logrotate with copytruncate.
      if (fstatSync(this.#fd).size < this.#offset) this.#offset = 0;
      const length = readSync(this.#fd, buffer, 0, CHUNK, this.#offset);
      if (length === 0) return;
      this.#offset += length;
      await write(Buffer.from(buffer.subarray(0, length)));
    }
  }
}

module.exports = { follow };
