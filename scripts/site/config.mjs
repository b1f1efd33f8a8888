// The settings of VitePress. scripts/site.mjs writes settings.json and copies both beside the pages.

import { readFileSync } from 'node:fs';

const { sidebar, source, ...settings } = JSON.parse(readFileSync(new URL('./settings.json', import.meta.url), 'utf8'));

export default {
  ...settings,
  srcExclude: ['node_modules/**'],
  cleanUrls: true,
  ignoreDeadLinks: false,
  themeConfig: {
    siteTitle: 'Ally daemons',
    sidebar,
    nav: [
      { text: 'Begin', link: '/docs/installing' },
      { text: 'Reference', link: '/api/' },
      { text: 'Changelog', link: '/CHANGELOG' },
    ],
    outline: [2, 3],
    search: { provider: 'local' },
    socialLinks: [{ icon: 'github', link: source }],
    // The pages have these lines themselves.
    docFooter: { prev: false, next: false },
  },
};
