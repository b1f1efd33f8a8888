'use strict';

// scripts/dist/symbols.mjs: the check that a Linux binary runs on the oldest promised system.

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { ROOT, testWith } = require('../helpers/needs');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const prebuilt = path.join(ROOT, 'prebuilt', `${process.platform}-${process.arch}`);
const files = { addon: path.join(prebuilt, 'ally.node'), guardian: path.join(prebuilt, 'ally-guardian') };

/** The value of an expression over a module of scripts/dist. jest can't import modules. */
function evaluate(module, expression) {
  const source = `import * as module from '${ROOT}/scripts/dist/${module}'; import { readFileSync } from 'node:fs';
    console.log(JSON.stringify(${expression}));`;
  return JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8', stdio: 'pipe' }));
}
const readElf = (file) =>
  evaluate('elf.mjs', `(({ versions, ...rest }) => ({ ...rest, versions: [...versions] }))(module.readElf(readFileSync('${file}')))`);
const problems = (target, { addon, guardian } = files) => {
  const { os, cpu, libc } = { os: 'linux', cpu: process.arch, libc: 'glibc', ...target };
  return evaluate('symbols.mjs', `module.problemsOf(${JSON.stringify({ os, cpu, libc })}, ${JSON.stringify({ addon, guardian })})`);
};

/** A program of C, or a library, as the linker of this machine makes it. */
function compile(name, text, ...flags) {
  const file = world.path(name);
  fs.writeFileSync(`${file}.c`, text);
  execFileSync('cc', ['-o', file, `${file}.c`, ...flags]);
  return file;
}

testWith('Linux', 'readelf')('symbols: libraries and versions are those that readelf prints', () => {
  for (const file of [...Object.values(files), process.execPath]) {
    const printed = execFileSync('readelf', ['-dVlW', file], { encoding: 'utf8', maxBuffer: 2 ** 26 });
    const { needed, versions, interpreter } = readElf(file);
    expect(needed).toEqual([...printed.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map(([, name]) => name));
    expect(interpreter).toBe(/interpreter: (.+)\]/.exec(printed)?.[1]);
    const [, needs = ''] = printed.split(/^Version needs section/m);
    const listed = [...needs.matchAll(/File: (\S+)|Name: (\S+) /g)];
    const flat = versions.flatMap(([library, names]) => [library, ...names]);
    expect(flat).toEqual(listed.map(([, library, name]) => library ?? name));
  }
});

testWith('Linux', 'cc')('symbols: a newer glibc than promised, an unusual library and a dynamic guardian are refused by name', () => {
  const text = 'void new_one(void); __asm__(".symver new_one,new_one@GLIBC_2.99"); void use(void) { new_one(); }';
  fs.writeFileSync(world.path('map'), 'GLIBC_2.99 { new_one; };');
  const script = `-Wl,--version-script=${world.path('map')}`;
  const fake = compile('libc.so.6', 'void new_one(void) {}', '-shared', script, '-Wl,-soname,libc.so.6');
  const odd = compile('libodd.so.1', 'void odd(void) {}', '-shared', '-Wl,-soname,libodd.so.1');
  const addon = compile('addon', `${text} void odd(void); void use_odd(void) { odd(); }`, '-shared', '-nostdlib', fake, odd);
  const guardian = compile('guardian', 'int main(void) { return 0; }');
  const found = problems({}, { addon, guardian });
  expect(found.slice(0, 2)).toEqual([
    'ally.node needs libodd.so.1, which not every system has',
    'ally.node needs glibc 2.99, and 2.28 is the newest that it may need',
  ]);
  expect(found[2]).toMatch(/^ally-guardian is not linked statically: it needs \/lib.*, libc\.so\.6$/);
  expect(found).toHaveLength(3);
});

testWith('Linux', 'glibc')('symbols: another processor and another C library are refused', () => {
  const other = process.arch === 'x64' ? 'arm64' : 'x64';
  expect(problems({ cpu: other }).slice(0, 2)).toEqual([
    `ally.node is built for ${process.arch}, and the package is for ${other}`,
    `ally-guardian is built for ${process.arch}, and the package is for ${other}`,
  ]);
  expect(problems({ libc: 'musl' })).toContain('ally.node is built for glibc, and the package is for musl');
});

testWith('Linux')('symbols: the guardian of this build needs no library at all', () => {
  expect(readElf(files.guardian)).toEqual({ cpu: process.arch, needed: [], versions: [] });
});

test('symbols: a file that is no ELF file is an error', () => {
  fs.writeFileSync(world.path('text'), 'no program');
  expect(() => readElf(world.path('text'))).toThrow('no ELF file');
});
