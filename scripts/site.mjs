// `npm run site`: the documents and the reference of index.d.ts as a site, in site/. VitePress and TypeDoc come into the cache. A dead
// link or a warning of TypeDoc fails the command.
//   --base PATH   where the site is on its server; the default is /

import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { npmPackages } from './cache.mjs';
import { addressOf, publishLinks } from './dist/links.mjs';
import { SECTIONS, titleOf } from './docs/pages.mjs';

const TOOLS = { vitepress: '1.6.4', typedoc: '0.28.20', 'typedoc-plugin-markdown': '4.14.1', typescript: '5.9', '@types/node': '22' };
const ROOT_PAGES = ['CHANGELOG', 'SECURITY', 'ARCHITECTURE', 'CONTRIBUTING'];

const TYPEDOC = {
  entryPoints: ['index.d.ts'],
  plugin: ['typedoc-plugin-markdown'],
  out: 'api',
  entryFileName: 'index',
  name: 'Reference',
  readme: 'none',
  sort: ['source-order'],
  disableSources: true,
  // What Node.js documents: the static members of EventEmitter.
  excludeExternals: true,
  treatWarningsAsErrors: true,
  // They serve the signatures of `on`.
  intentionallyNotExported: ['ManagerListener', 'MetaEvent', 'MetaListener'],
  hidePageHeader: true,
  hideBreadcrumbs: true,
  useCodeBlocks: true,
};

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: options } = parseArgs({ options: { base: { type: 'string', default: '/' } } });
const repository = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const tools = npmPackages(`site-${TOOLS.vitepress}-${TOOLS.typedoc}`, TOOLS);
if (!tools) process.exit(1);
const staging = realpathSync(mkdtempSync(join(tmpdir(), 'ally-site-')));
try {
  documents();
  reference();
  build();
} finally {
  rmSync(staging, { recursive: true, force: true });
}

/** As they are in the repository: links to other files lead there. */
function documents() {
  for (const name of ['README.md', 'docs', 'bench/chart.svg', ...ROOT_PAGES.map((page) => `${page}.md`)])
    cpSync(join(root, name), join(staging, name), { recursive: true });
  publishLinks(staging, root, addressOf(repository), repository.version);
  for (const name of readdirSync(staging, { recursive: true }).filter((each) => each.endsWith('.md'))) {
    const text = readFileSync(join(staging, name), 'utf8')
      // The mark of scripts/docs.mjs is none of the language.
      .replace(/^( *```\w+) (?:check|run)$/gm, '$1')
      .replace(/(\]\((?:\.\.\/)?)README\.md/g, '$1index.md');
    writeFileSync(join(staging, name), text);
  }
  renameSync(join(staging, 'README.md'), join(staging, 'index.md'));
}

function reference() {
  const types = readFileSync(join(root, 'index.d.ts'), 'utf8')
    // TypeDoc knows tags of declarations, and none of the members of a union.
    .replace(/\/\*\*(?:(?!\*\/)[\s\S])*\*\/(?=\s*\| )/g, (comment) =>
      comment.replace(/@example (.+)/g, 'Example: `$1`').replace(/@see (.+)/g, 'See $1.'),
    )
    // In a comment links are relative to the repository.
    .replace(/\]\(docs\//g, '](/docs/')
    .replaceAll('](README', '](/index');
  writeFileSync(join(staging, 'index.d.ts'), types);
  symlinkSync(join(tools, 'node_modules'), join(staging, 'node_modules'));
  const compilerOptions = { module: 'nodenext', target: 'es2022', lib: ['es2022', 'esnext.disposable'], types: ['node'] };
  writeFileSync(join(staging, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['index.d.ts'] }));
  writeFileSync(join(staging, 'package.json'), JSON.stringify({ name: repository.name, version: repository.version, type: 'module' }));
  writeFileSync(join(staging, 'typedoc.json'), JSON.stringify(TYPEDOC));
  tool('typedoc', []);
}

function build() {
  const outDir = join(root, 'site');
  cpSync(join(root, 'scripts', 'site'), join(staging, '.vitepress'), { recursive: true });
  copyFileSync(join(root, 'LICENSE'), join(staging, 'LICENSE'));
  const page = (link) => ({ text: titleOf(readFileSync(join(staging, `${link}.md`), 'utf8')), link: `/${link}` });
  const sidebar = [
    ...SECTIONS.map(([text, names]) => ({ text, items: names.map((name) => page(`docs/${name}`)) })),
    { text: 'Reference', items: [{ text: 'index.d.ts', link: '/api/' }] },
    { text: 'Project', items: ROOT_PAGES.map(page) },
  ];
  const { name, description, repository: source } = repository;
  const settings = {
    outDir,
    base: options.base,
    title: name.split('/')[1],
    description,
    sidebar,
    source: addressOf({ repository: source }),
  };
  writeFileSync(join(staging, '.vitepress', 'settings.json'), JSON.stringify(settings));
  rmSync(outDir, { recursive: true, force: true });
  tool('vitepress', ['build', staging]);
}

function tool(name, args) {
  const { status, error } = spawnSync(join(tools, 'node_modules', '.bin', name), args, { cwd: staging, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${name} ends with ${status}`);
}
