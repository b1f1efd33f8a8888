'use strict';
// Changes of the files below a folder, by the kernel's events. Node's own recursive watch does not exist on Linux before Node.js 20.

const fs = require('node:fs');
const path = require('node:path');

const { problem } = require('./problems.js');

/** An editor writes a file in several steps, and a compiler writes many files. */
const QUIET = 200;
/** A program that writes without a pause must not put the change off for ever. */
const LONGEST = 2_000;

const IGNORED_NAMES = new Set([
  '__pycache__',
  '.git',
  '.hg',
  '.svn',
  'node_modules',
  '.venv',
  'venv',
  '.mypy_cache',
  '.pytest_cache',
  '.DS_Store',
]);
/** Byte code, logs and their older files, sockets, pid files, and what editors leave for a moment. */
const IGNORED_ENDINGS = /(\.py[co]|\.log(\.\d+)?(\.gz)?|\.sock|\.pid|\.sw[a-z]|~|\.tmp)$/i;

class Watcher {
  #root;
  #onChange;
  #ignored;
  /** Folder to its watcher. */
  #folders = new Map();
  #changed = new Set();
  #timer;
  #firstAt;

  /** `ignored`: paths of files that the daemon writes. `onChange` gets the changed paths, relative to `root`. */
  constructor(root, { ignored, onChange }) {
    this.#root = root;
    this.#ignored = ignored;
    this.#onChange = onChange;
    this.#add(root);
  }

  close() {
    clearTimeout(this.#timer);
    for (const watcher of this.#folders.values()) watcher.close();
    this.#folders.clear();
  }

  #add(folder) {
    if (this.#folders.has(folder)) return;
    let entries;
    try {
      const watcher = fs.watch(folder, (_, name) => this.#onEvent(folder, name));
      watcher.on('error', () => this.#remove(folder));
      this.#folders.set(folder, watcher);
      entries = fs.readdirSync(folder, { withFileTypes: true });
    } catch (error) {
      this.#remove(folder);
      // ENOSPC: the limit of inotify watches. A folder that is gone again is no problem.
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') problem(`${folder} is not watched: ${error.code ?? error.message}`);
      return;
    }
    for (const entry of entries) if (entry.isDirectory() && !IGNORED_NAMES.has(entry.name)) this.#add(path.join(folder, entry.name));
  }

  #remove(folder) {
    this.#folders.get(folder)?.close();
    this.#folders.delete(folder);
  }

  #onEvent(folder, name) {
    if (name === null || IGNORED_NAMES.has(name) || IGNORED_ENDINGS.test(name)) return;
    const file = path.join(folder, name);
    // Older log files have the name of the live one in front.
    if (
      this.#ignored.some(
        (own) => file === own || file.startsWith(`${own}.`) || file.startsWith(path.join(path.dirname(own), `.${path.basename(own)}.`)),
      )
    )
      return;
    const found = fs.lstatSync(file, { throwIfNoEntry: false });
    if (found?.isSocket() || found?.isFIFO()) return;
    if (found?.isDirectory()) this.#add(file);
    else if (found === undefined) this.#remove(file);
    this.#changed.add(path.relative(this.#root, file));
    this.#firstAt ??= performance.now();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tell(), Math.max(0, Math.min(QUIET, this.#firstAt + LONGEST - performance.now())));
  }

  #tell() {
    const files = [...this.#changed].sort();
    this.#changed.clear();
    this.#firstAt = undefined;
    this.#onChange(files);
  }
}

module.exports = { Watcher };
