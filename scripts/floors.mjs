// Checks the floors of ARCHITECTURE.md: which crate may use which, and which file may name what.
// `node scripts/floors.mjs [FOLDER]`: of another checkout. `--self-test`: plants what must be found in a copy, and looks.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const home = dirname(dirname(fileURLToPath(import.meta.url)));

/** What each crate may depend on, tests apart. A crate that is not listed is not known here, which is an error. */
const crates = {
  'ally-background-process-manager': /./,
  'ally-base': /^(libc|nix|once_cell)$/,
  'ally-build-id': /^$/,
  'ally-core': /^(ally-base|httparse|libc|memchr|nix|once_cell|postcard|regex-lite|serde|strsim|tokio|tracing)$/,
  'ally-guardian': /^(ally-base|ally-build-id|ally-host|ally-log|libc|nix)$/,
  'ally-host': /^(ally-base|ally-build-id|ally-core|libc|nix)$/,
  'ally-log': /^(ally-base|flate2|libc|memchr|nix)$/,
};

/** Where (a prefix of the path), what must not be named there, and why. `except`: prefixes that may. */
const rules = [
  { where: 'crates/', banned: /\bnapi/, why: 'only the addon knows napi' },
  { where: 'src/', except: ['src/binding/'], banned: /\bnapi/, why: 'only the binding knows napi' },
  {
    where: 'crates/core/src/lifecycle/',
    banned: /\b(ally_base|tokio|nix|libc|tracing|once_cell)::|std::(time|fs|io|thread|process|os|env|net)\b/,
    why: 'the lifecycle is pure',
  },
  {
    where: 'crates/core/src/lifecycle/',
    banned: /crate::(supervisor|config)\b/,
    why: 'the lifecycle knows no floor above it',
  },
  {
    where: 'crates/core/src/supervisor/',
    banned: /crate::sharing\b/,
    why: 'the supervisor knows no session and no host',
  },
  {
    where: 'crates/guardian/src/',
    except: ['crates/guardian/src/main.rs'],
    banned: /\bally_host\b/,
    why: 'guardian and keeper use no code of the host',
  },
  {
    where: 'crates/core/src/config/',
    banned: /\btokio::|\bally_base::(os|wire)|crate::supervisor\b/,
    why: 'a configuration is checked without doing anything',
  },
  {
    where: 'crates/core/src/error/',
    banned: /crate::(supervisor|config|lifecycle)\b/,
    why: 'failures know only the words that they are made of',
  },
  {
    where: 'crates/core/src/model.rs',
    banned: /crate::/,
    why: 'the words are the ground',
  },
];

/** `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`. */
function expand(path) {
  const open = path.indexOf('{');
  if (open < 0) return [path];
  const [head, body] = [path.slice(0, open), path.slice(open + 1, path.lastIndexOf('}'))];
  const parts = [];
  let [depth, start] = [0, 0];
  for (let at = 0; at <= body.length; at++) {
    if (body[at] === '{') depth++;
    if (body[at] === '}') depth--;
    if (at === body.length || (body[at] === ',' && depth === 0)) {
      parts.push(body.slice(start, at).trim());
      start = at + 1;
    }
  }
  return parts.filter(Boolean).flatMap((part) => expand(head + part));
}

/** The path of a module's file: `crate::lifecycle::machine` for crates/core/src/lifecycle/machine/mod.rs. */
function moduleOf(name) {
  const parts = name
    .replace(/^.*?src\//, '')
    .replace(/(^|\/)(mod|lib|main)\.rs$|\.rs$/, '')
    .split('/');
  return ['crate', ...parts.filter(Boolean)];
}

/** The imports of a file, each with its line, in full: groups expanded, `super` resolved. */
function* imports(name, text) {
  for (const match of text.matchAll(/^[ \t]*(?:pub(?:\([^)]*\))? )?use ([^;]+);/gm)) {
    const line = text.slice(0, match.index).split('\n').length;
    for (const path of expand(match[1].replace(/\s+/g, ' '))) {
      let within = moduleOf(name);
      let rest = path.trim();
      if (/^(self|super)::/.test(rest)) {
        if (rest.startsWith('self::')) rest = rest.slice('self::'.length);
        while (rest.startsWith('super::')) {
          within = within.slice(0, -1);
          rest = rest.slice('super::'.length);
        }
        rest = [...within, rest].join('::');
      }
      yield { line, path: rest };
    }
  }
}

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else if (entry.name.endsWith('.rs')) yield path;
  }
}

function* sources(root) {
  yield* files(join(root, 'src'));
  for (const crate of readdirSync(join(root, 'crates'))) yield* files(join(root, 'crates', crate, 'src'));
}

/** Every violation, as a line. */
function violations(root) {
  const found = [];
  const { status, stdout, stderr } = spawnSync('cargo', ['metadata', '--no-deps', '--format-version', '1'], {
    cwd: root,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`cargo metadata failed: ${stderr}`);
  for (const { name, dependencies } of JSON.parse(stdout).packages) {
    if (!(name in crates)) found.push(`crate ${name}: has no floor; add it to scripts/floors.mjs`);
    for (const dependency of dependencies.filter(({ kind }) => kind === null)) {
      if (name in crates && !crates[name].test(dependency.name)) found.push(`crate ${name}: must not depend on ${dependency.name}`);
    }
  }
  for (const path of sources(root)) {
    const name = relative(root, path);
    const applying = rules.filter(({ where, except = [] }) => name.startsWith(where) && !except.some((prefix) => name.startsWith(prefix)));
    const text = readFileSync(path, 'utf8');
    for (const { line, path: imported } of imports(name, text)) {
      for (const { banned, why } of applying) {
        if (banned.test(imported)) found.push(`${name}:${line}: ${why}: use ${imported}`);
      }
    }
    text.split('\n').forEach((line, index) => {
      // Comments may name anything.
      const code = line.replace(/\/\/.*$/, '');
      for (const { banned, why } of applying) {
        if (banned.test(code)) found.push(`${name}:${index + 1}: ${why}: ${line.trim()}`);
      }
    });
  }
  return found;
}

/** A check that finds nothing may be blind: each of these is planted in a copy and must be found there. */
const plants = [
  {
    file: 'crates/core/src/lifecycle/event.rs',
    text: 'use crate::supervisor::Manager as _;\n',
    found: /event\.rs:\d+: the lifecycle knows no floor above it/,
  },
  {
    file: 'crates/core/src/lifecycle/event.rs',
    text: 'use crate::{\n    error::Failure as _,\n    supervisor::Manager as _,\n};\n',
    found: /event\.rs:\d+: the lifecycle knows no floor above it/,
  },
  {
    file: 'crates/core/src/lifecycle/machine/steps.rs',
    text: 'use super::super::super::config::Raw as _;\n',
    found: /steps\.rs:\d+: the lifecycle knows no floor above it/,
  },
  { file: 'crates/core/src/lifecycle/event.rs', text: 'use tokio::time::Instant as _;\n', found: /event\.rs:\d+: the lifecycle is pure/ },
  { file: 'crates/core/src/supervisor/mod.rs', text: 'use napi::Env as _;\n', found: /supervisor\/mod\.rs:\d+: only the addon knows napi/ },
  { file: 'src/lib.rs', text: 'use napi::Env as _;\n', found: /src\/lib\.rs:\d+: only the binding knows napi/ },
  {
    file: 'crates/base/Cargo.toml',
    text: '\n[target."cfg(unix)".dependencies]\nally-core.workspace = true\n',
    found: /crate ally-base: must not depend on ally-core/,
  },
  {
    file: 'crates/guardian/Cargo.toml',
    text: '\n[target."cfg(unix)".dependencies]\ntokio.workspace = true\n',
    found: /crate ally-guardian: must not depend on tokio/,
  },
];

function selfTest() {
  const copy = mkdtempSync(join(tmpdir(), 'ally-floors-'));
  try {
    for (const part of ['Cargo.toml', 'Cargo.lock', 'build.rs', 'src', 'crates', 'bench/daemon.rs']) {
      cpSync(join(home, part), join(copy, part), { recursive: true });
    }
    for (const { file, text, found } of plants) {
      const path = join(copy, file);
      const before = readFileSync(path, 'utf8');
      writeFileSync(path, before + text);
      if (!violations(copy).some((violation) => found.test(violation)))
        throw new Error(`floors: what was planted in ${file} was not found`);
      writeFileSync(path, before);
    }
  } finally {
    rmSync(copy, { recursive: true });
  }
  console.log(`floors: all ${plants.length} planted violations were found`);
}

if (process.argv[2] === '--self-test') {
  selfTest();
} else {
  const found = violations(process.argv[2] ?? home);
  for (const violation of found) console.error(violation);
  if (found.length > 0) process.exit(1);
  console.log('floors: every crate and file knows only what lies below it');
}
