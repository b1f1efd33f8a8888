'use strict';
// Follows a log file across rotations. The kernel tells of changes in its folder.

const { closeSync, fstatSync, readSync, watch } = require('node:fs');
const path = require('node:path');

const { isSame, lastLines, logFiles, openFile, openIfThere } = require('./log-files.js');
const { Failed, problem } = require('./problems.js');

const CHUNK = 64 * 1024;
/** A file that is being renamed may be missing in a listing. */
const LISTINGS = 20;

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
    for (let listing = 0; listing < LISTINGS; listing++) {
      const files = logFiles(this.#live);
      // A rotation since it was opened has given it another name. Newer files are read later.
      const at = files.findIndex((file) => isSame(file, open));
      if (at >= 0) return [...files.slice(0, at), { ...files[at], end: this.#offset }];
    }
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
  #next() {
    const open = fstatSync(this.#fd);
    const files = logFiles(this.#live).filter(({ isCompressed }) => !isCompressed);
    const live = files.at(-1);
    if (live === undefined || live.number > 0 || isSame(live, open)) return undefined;
    // Compressed or removed by now: files between may be missing, and the live one follows.
    const at = files.findIndex((file) => isSame(file, open));
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
