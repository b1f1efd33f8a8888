// Links of the published documents: a file that is not published is linked at the repository, so that no link is dead.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** The target of a Markdown link or image, without its anchor. Links to the web and within the page are none of ours. */
const LINK = /(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)/g;

/** Rewrites the links of all documents in `published`, a part of what is in `source`. */
export function publishLinks(published, source, address, version) {
  for (const name of readdirSync(published, { recursive: true })) {
    if (!name.endsWith('.md')) continue;
    const file = join(published, name);
    const text = readFileSync(file, 'utf8').replace(LINK, (whole, image, label, target, anchor = '') => {
      const inside = join(dirname(name), target);
      if (existsSync(join(published, inside))) return whole;
      if (!existsSync(join(source, inside))) throw new Error(`${name}: dead link to ${target}`);
      const page = `${address}/${image ? 'raw' : 'blob'}/v${version}/${relative('', inside)}`;
      return `${image}${label}(${page}${anchor})`;
    });
    writeFileSync(file, text);
  }
}

/** The repository's page, from package.json. */
export const addressOf = ({ repository }) => repository.url.replace(/^git\+/, '').replace(/\.git$/, '');
