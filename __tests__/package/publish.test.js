'use strict';

// scripts/publish.mjs with tarballs of this version and a program in place of npm, which writes down what it is asked.

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync, spawnSync } = require('node:child_process');
const { ROOT } = require('../helpers/needs');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { name, version } = require('../../package.json');
const PLATFORMS = ['linux-x64-gnu', 'linux-x64-musl', 'linux-arm64-gnu', 'linux-arm64-musl', 'darwin-x64', 'darwin-arm64'];
const ALL = [name, ...PLATFORMS.map((suffix) => `${name}-${suffix}`)];

const fileOf = (packageName) => `${packageName.replace(/\W+/g, '-').replace(/^-/, '')}.tgz`;

function tarball(packageName, packageVersion = version) {
  const folder = world.path('tarballs');
  fs.mkdirSync(path.join(folder, 'package'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'package', 'package.json'), JSON.stringify({ name: packageName, version: packageVersion }));
  execFileSync('tar', ['-czf', fileOf(packageName), 'package'], { cwd: folder });
  fs.rmSync(path.join(folder, 'package'), { recursive: true });
}

/** `published`: names that the registry has already. `heading`: of the version in the changelog, after its number. Returns what npm was asked to publish, in order. */
function publish(args, { published = [], heading = ' (2026-01-31)' } = {}) {
  const bin = world.path('bin');
  fs.mkdirSync(bin, { recursive: true });
  const text = `#!/bin/sh
    case "$1 $2" in ${['"nothing"', ...published.map((each) => `"view ${each}@${version}"`)].join('|')}) echo ${version}; exit ;; esac
    [ "$1" = view ] && exit 1
    echo "$@" >> ${world.path('asked')}`;
  fs.writeFileSync(path.join(bin, 'npm'), text, { mode: 0o755 });
  const clone = world.path('clone');
  for (const each of ['package.json', 'scripts']) fs.cpSync(path.join(ROOT, each), path.join(clone, each), { recursive: true });
  fs.writeFileSync(path.join(clone, 'CHANGELOG.md'), `# Changelog\n\n## ${version}${heading}\n`);
  const command = [path.join(clone, 'scripts', 'publish.mjs'), '--tarballs', world.path('tarballs'), ...args];
  const { status, stderr } = spawnSync(process.execPath, command, {
    env: { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH}` },
    encoding: 'utf8',
  });
  const asked = fs.existsSync(world.path('asked')) ? fs.readFileSync(world.path('asked'), 'utf8').trim().split('\n') : [];
  return { status, stderr, asked };
}

test('publish: platforms first, the root last, each for all and with the tag latest', () => {
  for (const each of ALL) tarball(each);
  const { status, asked } = publish(['--dry-run', '--tag', `v${version}`]);
  expect(status).toBe(0);
  expect(asked).toHaveLength(ALL.length);
  expect(asked.at(-1)).toContain(`/${fileOf(name)} `);
  for (const line of asked) expect(line).toMatch(/^publish \S+\.tgz --access public --tag latest --ignore-scripts --dry-run$/);
});

test('publish: a platform that is missing, another version and another tag are named, and nothing is published', () => {
  for (const each of ALL.slice(0, -1)) tarball(each);
  tarball('stranger', '9.9.9');
  const { status, stderr, asked } = publish(['--dry-run', '--tag', 'v9.9.9']);
  expect({ status, asked }).toEqual({ status: 1, asked: [] });
  expect(stderr).toContain(`has no tarball of ${ALL.at(-1)}`);
  expect(stderr).toContain('stranger is no package of this project');
  expect(stderr).toContain(`version 9.9.9, and the release is ${version}`);
  expect(stderr).toContain(`the tag is v9.9.9, and the release is v${version}`);
});

test('publish: a package that the registry has already is passed over, so an interrupted release can be repeated', () => {
  for (const each of ALL) tarball(each);
  const { status, asked } = publish([], { published: ALL.slice(1, 4) });
  expect({ status, count: asked.length }).toEqual({ status: 0, count: ALL.length - 3 });
});

test('publish: a release without a date in the changelog is refused, and a rehearsal is not', () => {
  for (const each of ALL) tarball(each);
  const { status, stderr } = publish([], { heading: ' (unreleased)' });
  expect({ status, stderr }).toEqual({ status: 1, stderr: `CHANGELOG.md has no date for ${version}\n` });
  expect(publish(['--dry-run'], { heading: ' (unreleased)' }).status).toBe(0);
});

test('publish --partial: a rehearsal on one machine', () => {
  for (const each of ALL.slice(0, 2)) tarball(each);
  expect(publish(['--dry-run', '--partial']).asked).toHaveLength(2);
});
