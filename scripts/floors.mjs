// The floors of ARCHITECTURE.md, checked: who may name what.

import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Where (a prefix of the path), what must not be named there, and why. `except`: prefixes that may. */
const rules = [
  { where: 'src/', except: ['src/binding/'], banned: /\bnapi(_derive)?::|#\[napi/, why: 'only the binding knows napi' },
  {
    where: 'src/lifecycle/',
    banned: /\b(tokio|nix|libc|tracing|once_cell)::|std::(time|fs|io|thread|process|os|env|net)\b/,
    why: 'the lifecycle is pure',
  },
  { where: 'src/lifecycle/', banned: /crate::(supervisor|binding|guardian|os|config)\b/, why: 'the lifecycle knows no floor above it' },
  {
    where: 'src/guardian/',
    banned: /\b(tokio|napi|tracing|once_cell)::|crate::(supervisor|binding|lifecycle|config)\b/,
    why: 'the guardian is small and by itself',
  },
  {
    where: 'src/os/',
    banned: /\b(tokio|napi|tracing)::|crate::(supervisor|binding|lifecycle|config|guardian)\b/,
    why: 'the system corner decides nothing',
  },
  { where: 'src/supervisor/', banned: /crate::binding\b/, why: 'the supervisor knows nothing of JavaScript' },
  {
    where: 'src/config/',
    banned: /\b(tokio|napi)::|crate::(supervisor|binding)\b/,
    why: 'a configuration is checked without doing anything',
  },
];

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else if (entry.name.endsWith('.rs')) yield path;
  }
}

let broken = 0;
for (const path of files(join(root, 'src'))) {
  const name = relative(root, path);
  const applying = rules.filter(({ where, except = [] }) => name.startsWith(where) && !except.some((prefix) => name.startsWith(prefix)));
  readFileSync(path, 'utf8')
    .split('\n')
    .forEach((line, index) => {
      // Comments may name anything.
      const code = line.replace(/\/\/.*$/, '');
      for (const { banned, why } of applying) {
        if (!banned.test(code)) continue;
        broken += 1;
        console.error(`${name}:${index + 1}: ${why}: ${line.trim()}`);
      }
    });
}
if (broken > 0) process.exit(1);
console.log('floors: every file knows only what lies below it');
