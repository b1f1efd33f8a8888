// Whether the binaries of a Linux platform package run on the systems that the package promises.

import { readFileSync } from 'node:fs';
import { readElf } from './elf.mjs';
import { GLIBC } from './targets.mjs';

/** Libraries that each system has on which Node.js runs. */
const ALLOWED = {
  glibc: /^(lib(c|m|dl|pthread|rt|gcc_s)\.so\.\d+|ld-linux-(x86-64|aarch64)\.so\.\d)$/,
  musl: /^(libc\.so|libc\.musl-(x86_64|aarch64)\.so\.1|libgcc_s\.so\.1)$/,
};

const isNewer = (version, than) => version.localeCompare(than, 'en', { numeric: true }) > 0;

/** The newest version of glibc that an ELF file asks for. */
export function newestGlibc({ versions }) {
  const all = [...versions.values()].flat().flatMap((name) => /^GLIBC_([\d.]+)$/.exec(name)?.[1] ?? []);
  return all.reduce((newest, version) => (isNewer(version, newest) ? version : newest), '0');
}

/** Everything that speaks against publishing these two files for `target`, as sentences. macOS is not looked at. */
export function problemsOf(target, { addon, guardian }) {
  if (target.os !== 'linux') return [];
  const [library, program] = [addon, guardian].map((file) => readElf(readFileSync(file)));
  const problems = [];
  for (const [name, { cpu }] of [
    ['ally.node', library],
    ['ally-guardian', program],
  ])
    if (cpu !== target.cpu) problems.push(`${name} is built for ${cpu}, and the package is for ${target.cpu}`);
  for (const needed of library.needed.filter((name) => !ALLOWED[target.libc].test(name)))
    problems.push(`ally.node needs ${needed}, which not every system has`);
  const newest = newestGlibc(library);
  if (isNewer(newest, GLIBC)) problems.push(`ally.node needs glibc ${newest}, and ${GLIBC} is the newest that it may need`);
  if (target.libc === 'musl' && newest !== '0') problems.push(`ally.node is built for glibc, and the package is for musl`);
  // The guardian runs also where the owner's dynamic linker is not found: in a chroot, or as another user.
  if (program.interpreter || program.needed.length > 0)
    problems.push(
      `ally-guardian is not linked statically: it needs ${[program.interpreter, ...program.needed].filter(Boolean).join(', ')}`,
    );
  return problems;
}
