// `npm run lint:docs`: each code block of the documents is parsed or type-checked, each link leads somewhere, and each page leads to the
// next. A block that nobody checks fails.
//   FILE...   only these documents
//   --write   writes the lines with Previous and Next

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { blocksOf, CHECKED, markProblem } from './docs/blocks.mjs';
import { linkProblems } from './docs/links.mjs';
import { navigationProblems, withNavigation } from './docs/pages.mjs';
import { typeProblems } from './docs/types.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: options, positionals } = parseArgs({ allowPositionals: true, options: { write: { type: 'boolean' } } });
const inFolder = (folder) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name));
const names = positionals.length > 0 ? positionals.map((name) => relative(root, resolve(name))) : [...inFolder('.'), ...inFolder('docs')];
const textOf = (name) => readFileSync(join(root, name), 'utf8');
if (options.write) writeNavigation();
const documents = names.map((name) => ({ name, text: textOf(name) }));
const blocks = documents.flatMap(({ name, text }) => [...blocksOf(name, text)]);
const checkedBy = (check) => blocks.filter(({ language }) => CHECKED[language] === check);

const checks = {
  json,
  rust,
  shell: parsedBy('bash', ['-n']),
  python: parsedBy('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())']),
};
const problems = [
  ...blocks.map(markProblem).filter(Boolean),
  ...Object.entries(checks).flatMap(([name, check]) => checkedBy(name).map(check).filter(Boolean)),
  ...typeProblems(root, checkedBy('types')),
  ...documents.flatMap(({ name, text }) => linkProblems(root, name, text)),
  ...(positionals.length > 0 ? [] : navigationProblems(documents)),
];
for (const problem of problems) console.error(problem);
console.log(`docs: ${documents.length} documents, ${blocks.length} blocks, ${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;

function json({ place, text }) {
  try {
    JSON.parse(text);
  } catch (error) {
    return `${place}: ${error.message}`;
  }
  return undefined;
}

function parsedBy(command, args) {
  return ({ place, text }) => {
    const { status, stderr, error } = spawnSync(command, args, { input: text, encoding: 'utf8' });
    return status === 0 ? undefined : `${place}: ${error?.message ?? stderr.trim()}`;
  };
}

/** The compiler without its second half: names, types and lifetimes. */
function rust({ place, text }) {
  const out = mkdtempSync(join(tmpdir(), 'ally-docs-'));
  try {
    const args = ['--edition', '2024', '--emit', 'metadata', '--out-dir', out, '-'];
    const { status, stderr, error } = spawnSync('rustc', args, { input: text, encoding: 'utf8' });
    return status === 0 ? undefined : `${place}: ${error?.message ?? stderr.trim()}`;
  } finally {
    rmSync(out, { recursive: true });
  }
}

function writeNavigation() {
  for (const file of inFolder('docs')) {
    const text = textOf(file);
    writeFileSync(
      join(root, file),
      withNavigation(basename(file, '.md'), text, (page) => textOf(join('docs', `${page}.md`))),
    );
  }
}
