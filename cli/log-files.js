'use strict';
// A log file and its older files: file, file.1 or file.1.gz, file.2 … A rotation renames them at any time, so a file is known by its
// inode.

const fs = require('node:fs');
const path = require('node:path');

const { Failed } = require('./problems.js');

const CHUNK = 64 * 1024;
const NEWLINE = 0x0a;
/** A file that is compressed in the midst of a listing becomes another one, and could be there twice. */
const LISTINGS = 200;
/** In the midst of a rotation one number has no file, and the next look may meet that of the next rotation. */
const MISSES = 10;

const isSame = (a, b) => a.dev === b.dev && a.ino === b.ino;

/**
 * The files that are there, the oldest first: `{ path, number, isCompressed, dev, ino, size, moved }`. A file with an `end` is read up to
 * there. `moved.by`: how many rotations have been seen since this listing.
 */
function logFiles(live) {
  let files = listed(live);
  for (let listing = 1; listing < LISTINGS && files.some(({ isCompressed }) => isCompressed); listing++) {
    const again = listed(live);
    const isStable = again.length === files.length && again.every((file, index) => isSame(file, files[index]));
    files = again;
    if (isStable) break;
  }
  return files;
}

/**
 * The newest first, as a rotation gives each file a higher number, the oldest first: so a file that is renamed meanwhile is met once or
 * twice, and never missed.
 */
function listed(live) {
  const base = path.basename(live);
  const numbers = entriesOf(path.dirname(live)).flatMap((entry) => numberOf(base, entry)?.number ?? []);
  const files = new Map();
  const moved = { by: 0 };
  let next = 0;
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    next = Math.max(next, number);
    // Beyond the last number that is known, because files have got higher ones.
    for (let misses = 0; misses < MISSES; next = above(next)) {
      const file = fileAt(live, next);
      if (file === undefined) misses++;
      else {
        misses = 0;
        // Met again, it is behind those that were met meanwhile: a new file has overtaken this listing.
        const key = `${file.dev}:${file.ino}`;
        files.delete(key);
        files.set(key, { ...file, moved });
      }
    }
  }
  return [...files.values()].reverse();
}

/** `{ number, isCompressed }` of a name in the folder, or null. */
function numberOf(base, entry) {
  if (entry === base) return { number: 0, isCompressed: false };
  const match = entry.startsWith(`${base}.`) ? /^(\d+)(\.gz)?$/.exec(entry.slice(base.length + 1)) : null;
  // A greater number is no rotated file: the next one could not be told from it.
  return match && Number.isSafeInteger(Number(match[1])) ? { number: Number(match[1]), isCompressed: match[2] !== undefined } : null;
}

/** A rotation gives the live file the name of the next one, before it gets that of `file.1`: see crates/log/src/rotation.rs. */
const LEAVING = 0.5;
const above = (number) => (number === 0 ? LEAVING : Math.floor(number) + 1);

function nameOf(live, number, isCompressed) {
  if (number === LEAVING) return path.join(path.dirname(live), `.${path.basename(live)}.new`);
  return (number === 0 ? live : `${live}.${number}`) + (isCompressed ? '.gz' : '');
}

function fileAt(live, number) {
  // While a file is compressed, both are there.
  for (const isCompressed of [false, true]) {
    const file = nameOf(live, number, isCompressed);
    const stat = fs.statSync(file, { throwIfNoEntry: false });
    // Until it has its place, the next live file is empty.
    if (stat?.isFile() && (number !== LEAVING || stat.size > 0))
      return { path: file, number, isCompressed, dev: stat.dev, ino: stat.ino, size: stat.size };
  }
  return undefined;
}

function entriesOf(folder) {
  try {
    return fs.readdirSync(folder);
  } catch (error) {
    if (error.code === 'ENOENT') return [];
    throw new Failed(`${folder} can't be read: ${error.code ?? error.message}`);
  }
}

/** Opens that very file, whatever its name is by now. Undefined if it was removed. */
function openFile(live, file) {
  let at = file;
  for (let listing = 0; listing < LISTINGS && at !== undefined; listing++) {
    const fd = openUpwards(live, at);
    if (fd !== undefined) return fd;
    at = logFiles(live).find((each) => isSame(each, file));
  }
  return undefined;
}

function openUpwards(live, file) {
  // Files are only renamed to higher numbers. One that is newer than the last one found may be a rotation behind it.
  const first = file.moved.by > 1 ? Math.floor(file.number) + file.moved.by - 1 : file.number;
  for (let number = first, misses = 0; misses < MISSES; number = above(number)) {
    const fd = openIfThere(nameOf(live, number, file.isCompressed));
    if (fd === undefined) misses = fileAt(live, number) === undefined ? misses + 1 : 0;
    else if (isSame(fs.fstatSync(fd), file)) {
      file.moved.by = Math.floor(number) - Math.floor(file.number);
      return fd;
    } else {
      misses = 0;
      fs.closeSync(fd);
    }
  }
  return undefined;
}

function openIfThere(name) {
  try {
    return fs.openSync(name, 'r');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw new Failed(`${name} can't be read: ${error.code ?? error.message}`);
  }
}

/**
 * The file at this place of a listing. A compression makes another file and removes the plain one, which the listing has. The new file is
 * in no earlier listing, and has the same lines at the same offsets.
 */
function current(live, files, index) {
  const file = files[index];
  if (file.isCompressed) return file;
  const fd = openFile(live, file);
  if (fd !== undefined) {
    fs.closeSync(fd);
    return file;
  }
  const isNew = (each) => each.isCompressed && each.number >= file.number && !files.some((known) => isSame(known, each));
  files[index] = logFiles(live).filter(isNew).at(-1) ?? file;
  return files[index];
}

/** The last `count` lines of the files, in pieces. A line without newline at the end counts. */
async function* lastLines(live, files, count) {
  if (count === 0) return;
  const from = count === Number.POSITIVE_INFINITY ? { index: 0, offset: 0 } : await startOf(live, files, count);
  for (let index = from.index; index < files.length; index++) {
    yield* piecesOf(live, current(live, files, index), index === from.index ? from.offset : 0);
  }
}

/** Where the last `count` lines begin. */
async function startOf(live, files, count) {
  let wanted = count;
  for (let index = files.length; index-- > 0; ) {
    const file = current(live, files, index);
    const search = file.isCompressed ? searchForwards : searchBackwards;
    const { offset, found } = await search(live, file, wanted);
    if (found >= wanted) return { index, offset };
    wanted -= found;
  }
  return { index: 0, offset: 0 };
}

/** Reads from the end, because the file may be long. */
function searchBackwards(live, file, wanted) {
  const fd = openFile(live, file);
  if (fd === undefined) return { offset: 0, found: 0 };
  try {
    const size = file.end ?? fs.fstatSync(fd).size;
    const buffer = Buffer.alloc(CHUNK);
    let found = 0;
    for (let end = size; end > 0; ) {
      const start = Math.max(0, end - CHUNK);
      const length = fs.readSync(fd, buffer, 0, end - start, start);
      for (let at = length; at-- > 0; ) {
        // The newline at the very end closes the last line.
        if (buffer[at] !== NEWLINE || start + at === size - 1) continue;
        if (++found === wanted) return { offset: start + at + 1, found };
      }
      end = start;
    }
    return { offset: 0, found: size > 0 ? found + 1 : 0 };
  } finally {
    fs.closeSync(fd);
  }
}

async function searchForwards(live, file, wanted) {
  // The offsets at which the last `wanted` lines begin.
  const starts = [];
  let at = 0;
  let isAtStart = true;
  for await (const piece of piecesOf(live, file, 0)) {
    for (let index = 0; index < piece.length; index++) {
      if (isAtStart) starts.push(at + index);
      if (starts.length > wanted) starts.shift();
      isAtStart = piece[index] === NEWLINE;
    }
    at += piece.length;
  }
  return { offset: starts[0] ?? 0, found: starts.length };
}

async function* piecesOf(live, file, offset) {
  const { isCompressed, end = Number.POSITIVE_INFINITY } = file;
  const fd = offset < end ? openFile(live, file) : undefined;
  if (fd === undefined) return;
  const plain = fs.createReadStream(undefined, { fd, start: isCompressed ? 0 : offset, end: end - 1, highWaterMark: CHUNK });
  if (!isCompressed) {
    yield* plain;
    return;
  }
  let skipped = 0;
  for await (const piece of plain.pipe(require('node:zlib').createGunzip())) {
    const rest = piece.subarray(Math.max(0, offset - skipped));
    skipped += piece.length;
    if (rest.length > 0) yield rest;
  }
}

module.exports = { isSame, lastLines, logFiles, nameOf, numberOf, openFile, openIfThere };
