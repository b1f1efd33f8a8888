// Blocks of JavaScript and TypeScript against index.d.ts. A fragment may use the names of the prelude without declaring them.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PRELUDE = `
import { BackgroundProcessManager as Manager, type BackgroundProcessConfig } from '@ally/background-process-manager';
type Mutable<T> = T extends (...args: any[]) => any ? T : { -readonly [K in keyof T]: Mutable<T[K]> };
declare module 'node:diagnostics_channel' {
  /** The context is of whoever publishes. */
  function tracingChannel(name: string): { subscribe(subscribers: Record<string, (context: any) => void>): void };
}
declare global {
  const BackgroundProcessManager: typeof Manager;
  type BackgroundProcessManager = Manager;
  /** A constant object keeps its literal types: in a variable of its own, { type: 'accept' } is a probe. */
  function literal<const T>(value: T): Mutable<T>;
  const manager: BackgroundProcessManager;
  const config: BackgroundProcessConfig;
  /** Configurations of plugins, by their names. */
  const database: BackgroundProcessConfig, index: BackgroundProcessConfig, api: BackgroundProcessConfig, configs: BackgroundProcessConfig[];
  /** What a daemon does with a connection or a request. */
  const handle: (...args: any[]) => void;
}
`;

/** Options of a program that is written in JavaScript: no annotations, but each name, option and value must exist. */
const OPTIONS = {
  target: 'es2022',
  lib: ['es2022', 'esnext.disposable'],
  module: 'nodenext',
  moduleResolution: 'nodenext',
  types: ['node'],
  strictNullChecks: true,
  noEmit: true,
  skipLibCheck: true,
  allowUnreachableCode: true,
};

/** A problem for each error, at the line of the document. */
export function typeProblems(root, blocks) {
  if (blocks.length === 0) return [];
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'ally-docs-')));
  try {
    return check(root, blocks, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function check(root, blocks, folder) {
  writeFileSync(join(folder, 'prelude.d.mts'), PRELUDE);
  for (const [number, { text }] of blocks.entries()) writeFileSync(join(folder, `block-${number}.mts`), `${prepared(text)}export {};\n`);
  for (const { name, text } of blocks.flatMap(({ text: each }) => namedFile(each))) writeFileSync(join(folder, name), text);
  const paths = { '@ally/background-process-manager': [join(root, 'index.d.ts')] };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: { ...OPTIONS, paths, typeRoots: [join(root, 'node_modules', '@types')] }, include: ['*.mts'] }),
  );
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', folder, '--pretty', 'false'], { cwd: folder, encoding: 'utf8' });
  const found = [...stdout.matchAll(/^block-(\d+)\.mts\((\d+),\d+\): (.+)$/gm)].map(([, number, line, message]) => {
    const [, name, first] = /^(.+):(\d+)$/.exec(blocks[number].place);
    return `${name}:${Number(first) + Number(line)}: ${message}`;
  });
  return status !== 0 && found.length === 0 ? [stdout] : found;
}

/** JavaScript's users of a constant object see its values, and TypeScript would see only `string`. */
const prepared = (text) => text.replace(/^(const \w+ = )(\{.*\});$/gm, '$1literal($2);');

/** A block that begins with its file's name can be imported by another one. */
function namedFile(text) {
  const [, name] = /^\/\/ (\S+)\.mjs\n/.exec(text) ?? [];
  return name ? [{ name: `${name}.mts`, text }] : [];
}
