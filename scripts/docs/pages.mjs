// The pages of docs/ in reading order, by section: the lines with Previous and Next, and the sidebar of the site.

export const SECTIONS = [
  ['Begin', ['installing', 'writing-a-daemon', 'migrating', 'comparison', 'glossary']],
  ['Configure', ['configuration', 'manifest', 'environments']],
  [
    'Supervise',
    ['states', 'readiness-and-health', 'restarts', 'resources', 'stopping', 'held-sockets', 'on-demand', 'upgrades', 'groups', 'sharing'],
  ],
  ['Observe', ['output', 'log-files', 'metrics', 'errors', 'troubleshooting', 'command-line', 'testing']],
  ['Judge', ['platforms', 'support', 'files', 'guarantees', 'limits', 'performance', 'decisions']],
];

const PAGES = SECTIONS.flatMap(([, names]) => names);

export const titleOf = (text) => /^# (.+)$/m.exec(text)?.[1];

/** One below the heading, and one at the end. */
const NAVIGATION = /^(?:Previous: |\[README\]\(\.\.\/README\.md\) · ).*$/gm;

/** The text of a page with its navigation as it must be. `textOf`: of another page. */
export function withNavigation(name, text, textOf) {
  const link = (page) => `[${titleOf(textOf(page))}](${page}.md)`;
  const index = PAGES.indexOf(name);
  const [before, after] = [PAGES[index - 1], PAGES[index + 1]];
  const line = [
    before ? `Previous: ${link(before)}` : '[README](../README.md)',
    after ? `Next: ${link(after)}` : '[ARCHITECTURE](../ARCHITECTURE.md)',
  ];
  return text.replace(NAVIGATION, line.join(' · '));
}

/** `documents`: names and texts. Pages without a place, or without their navigation. */
export function navigationProblems(documents) {
  const pages = new Map(documents.filter(({ name }) => name.startsWith('docs/')).map(({ name, text }) => [name.slice(5, -3), text]));
  return [
    ...PAGES.filter((name) => !pages.has(name)).map((name) => `docs/${name}.md: scripts/docs/pages.mjs has it, and docs/ has not`),
    ...[...pages].flatMap(([name, text]) => problemsOf(name, text, pages)),
  ];
}

function problemsOf(name, text, pages) {
  if (!PAGES.includes(name)) return [`docs/${name}.md: scripts/docs/pages.mjs has no place for it`];
  const isRight = text.match(NAVIGATION)?.length === 2 && text === withNavigation(name, text, (page) => pages.get(page) ?? '');
  return isRight
    ? []
    : [`docs/${name}.md: Previous and Next are not those of scripts/docs/pages.mjs. \`npm run lint:docs -- --write\` writes them`];
}
