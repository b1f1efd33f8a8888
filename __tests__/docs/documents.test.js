'use strict';

// scripts/docs.mjs finds what is wrong in a document: each of these is planted in a folder with one document.

const fs = require('node:fs');
const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { ROOT } = require('../helpers/needs');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

/** What the script says of a document with this text. */
function check(text) {
  const clone = world.path('clone');
  fs.cpSync(path.join(ROOT, 'scripts'), path.join(clone, 'scripts'), { recursive: true });
  fs.copyFileSync(path.join(ROOT, 'index.d.ts'), path.join(clone, 'index.d.ts'));
  fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(clone, 'node_modules'));
  fs.mkdirSync(path.join(clone, 'docs'));
  fs.writeFileSync(path.join(clone, 'docs', 'page.md'), text);
  const { status, stderr } = spawnSync(process.execPath, [path.join(clone, 'scripts', 'docs.mjs'), path.join(clone, 'docs', 'page.md')], {
    encoding: 'utf8',
  });
  return { status, stderr };
}
const block = (info, code) => `# Page\n\n\`\`\`${info}\n${code}\n\`\`\`\n`;

test('documents: text, a checked fragment and a link to a heading pass', () => {
  const fragment = block('js check', "const probe = { type: 'accept' };\nmanager.startProcess({ ...config, readiness: probe });");
  const text = `${fragment}${block('text', 'anything {')}\n## Two words\n\n[here](#two-words) [there](page.md#page)\n`;
  expect(check(text)).toEqual({ status: 0, stderr: '' });
});

test.each([
  ['a block without a language', block('', 'x'), 'docs/page.md:3: a block without a language'],
  ['a block without a mark', block('sh', 'x'), 'docs/page.md:3: a block of sh without a mark'],
  ['a language that nobody checks', block('ruby check', 'x'), 'docs/page.md:3: nobody checks ruby'],
  [
    'an option or a method that does not exist',
    block('js check', '\nmanager.startProcess({ ...config, noSuch: 1 });\nmanager.stopAll();'),
    "docs/page.md:5: error TS2353: .*'noSuch'.*docs/page.md:6: error TS\\d+: .*'stopAll'",
  ],
  ['JSON', block('json check', '{ "a": }'), 'docs/page.md:3: .*JSON'],
  ['a shell command', block('sh check', 'if true'), 'docs/page.md:3: .*syntax error'],
  ['Python', block('python check', 'def f(:'), 'docs/page.md:3: .*SyntaxError'],
  ['Rust', block('rust check', 'fn main() { x }'), 'docs/page.md:3: .*cannot find value'],
  ['a dead link', '# Page\n\n[x](nowhere.md)\n', 'docs/page.md:3: dead link \\(nowhere.md\\)'],
  ['a dead anchor', '# Page\n\n[x](page.md#nowhere)\n', 'docs/page.md:3: no heading for \\(page.md#nowhere\\)'],
])('documents: %s is refused', (_, text, problem) => {
  const { status, stderr } = check(text);
  expect(status).toBe(1);
  expect(stderr).toMatch(new RegExp(problem, 's'));
});
