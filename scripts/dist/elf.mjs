// What a Linux program needs of the system that runs it, read from its ELF file (elf(5)): 64-bit, little-endian.

const [PT_LOAD, PT_DYNAMIC, PT_INTERP] = [1, 2, 3];
const [DT_NULL, DT_NEEDED, DT_STRTAB, DT_VERNEED, DT_VERNEEDNUM] = [0, 1, 5, 0x6ffffffe, 0x6fffffff];
const MACHINES = { 62: 'x64', 183: 'arm64' };

/**
 * `cpu`; `interpreter`: the dynamic linker, if it names one; `needed`: the libraries; `versions`: of each library, the versions of
 * symbols that must be there.
 */
export function readElf(bytes) {
  if (bytes.latin1Slice(0, 6) !== '\x7fELF\x02\x01') throw new Error('no ELF file of 64 bits, little-endian');
  const segments = segmentsOf(bytes);
  const textAt = (offset) => bytes.latin1Slice(offset, bytes.indexOf(0, offset));
  const interpreter = segments.find(({ type }) => type === PT_INTERP);
  const entries = entriesOf(
    bytes,
    segments.find(({ type }) => type === PT_DYNAMIC),
  );
  const tag = (wanted) => entries.find(([each]) => each === wanted)?.[1];
  const offsetOf = (address) => {
    const segment = segments.find(({ type, start, size }) => type === PT_LOAD && address >= start && address < start + size);
    if (!segment) throw new Error(`no segment has the address ${address}`);
    return address - segment.start + segment.offset;
  };
  const strings = entries.length > 0 ? offsetOf(tag(DT_STRTAB)) : 0;
  const name = (at) => textAt(strings + at);
  return {
    cpu: MACHINES[bytes.readUInt16LE(18)],
    interpreter: interpreter && textAt(interpreter.offset),
    needed: entries.filter(([each]) => each === DT_NEEDED).map(([, at]) => name(at)),
    versions: tag(DT_VERNEED) ? versionsOf(bytes, offsetOf(tag(DT_VERNEED)), tag(DT_VERNEEDNUM), name) : new Map(),
  };
}

function segmentsOf(bytes) {
  const [first, size, count] = [Number(bytes.readBigUInt64LE(32)), bytes.readUInt16LE(54), bytes.readUInt16LE(56)];
  return Array.from({ length: count }, (_, index) => {
    const at = first + index * size;
    const word = (offset) => Number(bytes.readBigUInt64LE(at + offset));
    return { type: bytes.readUInt32LE(at), offset: word(8), start: word(16), size: word(32) };
  });
}

/** The dynamic section: tags with their values. */
function entriesOf(bytes, section) {
  const entries = [];
  for (let at = section?.offset; section && at < section.offset + section.size; at += 16) {
    const tag = Number(bytes.readBigUInt64LE(at));
    if (tag === DT_NULL) break;
    entries.push([tag, Number(bytes.readBigUInt64LE(at + 8))]);
  }
  return entries;
}

/** Verneed: a chain of libraries, each with a chain of versions. */
function versionsOf(bytes, first, count, name) {
  const versions = new Map();
  for (let index = 0, library = first; index < count; index++) {
    const names = [];
    const number = bytes.readUInt16LE(library + 2);
    for (let version = library + bytes.readUInt32LE(library + 8), each = 0; each < number; each++) {
      names.push(name(bytes.readUInt32LE(version + 8)));
      version += bytes.readUInt32LE(version + 12);
    }
    versions.set(name(bytes.readUInt32LE(library + 4)), names);
    library += bytes.readUInt32LE(library + 12);
  }
  return versions;
}
