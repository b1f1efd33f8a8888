// `npm run lint:docs`: each code block of the documents is parsed or type-checked, and each link leads somewhere. A block that nobody
// checks fails.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { blocksOf, CHECKED, markProblem } from './docs/blocks.mjs';
import { linkProblems } from './docs/links.mjs';
import { typeProblems } from './docs/types.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const names = [root, join(root, 'docs')].flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => (folder === root ? name : join('docs', name))),
);
const documents = names.map((name) => ({ name, text: readFileSync(join(root, name), 'utf8') }));
const blocks = documents.flatMap(({ name, text }) => [...blocksOf(name, text)]);
const checkedBy = (check) => blocks.filter(({ language }) => CHECKED[language] === check);

const checks = {
  json,
  shell: parsedBy('bash', ['-n']),
  python: parsedBy('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())']),
};
const problems = [
  ...blocks.map(markProblem).filter(Boolean),
  ...Object.entries(checks).flatMap(([name, check]) => checkedBy(name).map(check).filter(Boolean)),
  ...typeProblems(root, checkedBy('types')),
  ...documents.flatMap(({ name, text }) => linkProblems(root, name, text)),
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
