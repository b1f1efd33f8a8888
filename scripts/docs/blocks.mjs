// The code blocks of a document. The first word after ``` is the language, the second one how it is proven:
//   check   parsed or type-checked by scripts/docs.mjs
//   run     a test copies it and runs it, and it is checked as well
// `text` is no code: output, drawings, formats.

const FENCE = /^( *)(`{3,})(.*)$/;

export function* blocksOf(name, text) {
  let open;
  const lines = text.split('\n');
  for (const [index, line] of lines.entries()) {
    const [, indent, ticks, info] = FENCE.exec(line) ?? [];
    if (ticks === undefined) continue;
    if (!open) open = { place: `${name}:${index + 1}`, indent, ticks, first: index + 1, words: info.trim().split(/\s+/) };
    else if (ticks === open.ticks && info === '') {
      const { place, first, words } = open;
      const code = lines.slice(first, index).map((each) => each.slice(open.indent.length));
      yield { place, language: words[0], mark: words[1], text: `${code.join('\n')}\n` };
      open = undefined;
    }
  }
  if (open) throw new Error(`${open.place}: this block has no end`);
}

/** What is wrong with the fence itself. */
export function markProblem({ place, language, mark }) {
  if (language === '') return `${place}: a block without a language. \`text\` is no code`;
  if (language === 'text') return undefined;
  if (!(language in CHECKED)) return `${place}: nobody checks ${language}. Known are text, ${Object.keys(CHECKED).join(', ')}`;
  if (mark !== 'check' && mark !== 'run') return `${place}: a block of ${language} without a mark: \`\`\`${language} check, or run`;
  return undefined;
}

/** The languages, each with the name of its check. */
export const CHECKED = { js: 'types', ts: 'types', json: 'json', sh: 'shell', py: 'python', python: 'python', rust: 'rust' };
