// Links between documents: each must lead to a file, and each anchor to a heading in it.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const LINK = /\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]+))?\)/g;

export function linkProblems(root, name, text) {
  const problems = [];
  for (const { index, 0: whole, 1: target, 2: anchor } of withoutBlocks(text).matchAll(LINK)) {
    const place = `${name}:${text.slice(0, index).split('\n').length}`;
    const file = target === '' ? join(root, name) : join(root, dirname(name), target);
    if (relative(root, file).startsWith('..') || !existsSync(file)) problems.push(`${place}: dead link ${whole.slice(1)}`);
    else if (anchor && statSync(file).isFile() && file.endsWith('.md') && !anchorsOf(file).has(anchor))
      problems.push(`${place}: no heading for ${whole.slice(1)}`);
  }
  return problems;
}

/** Blanks in place of blocks and code, so that positions stay. */
const withoutBlocks = (text) => text.replace(/^```[\s\S]*?^```$|`[^`\n]+`(?!\])/gm, (code) => code.replace(/[^\n]/g, ' '));

const known = new Map();

/** The anchors as GitHub makes them from headings. */
function anchorsOf(file) {
  if (!known.has(file)) {
    const headings = [...readFileSync(file, 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
      heading
        .toLowerCase()
        .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    );
    known.set(file, new Set(headings));
  }
  return known.get(file);
}
