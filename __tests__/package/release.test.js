'use strict';

// What stands in several files, and must be the same in each.

const fs = require('node:fs');
const path = require('node:path');
const { execFileSync, spawnSync } = require('node:child_process');
const { ROOT } = require('../helpers/needs');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { version } = require('../../package.json');
const read = (name, root = ROOT) => fs.readFileSync(path.join(root, name), 'utf8');
const VERSIONED = ['package.json', 'native.js', 'scripts/platform/index.js', 'Cargo.toml', 'Cargo.lock', 'fuzz/Cargo.lock'];

test('version: package.json, the loader, the platform package and the crates have the same', () => {
  const { status, stderr } = spawnSync(process.execPath, [path.join(ROOT, 'scripts', 'version.mjs'), '--check'], { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

test('version: npm version writes the new one into all files, and --check names each that was forgotten', () => {
  const clone = world.path('clone');
  for (const name of [...VERSIONED, 'scripts/version.mjs']) {
    fs.mkdirSync(path.dirname(path.join(clone, name)), { recursive: true });
    fs.copyFileSync(path.join(ROOT, name), path.join(clone, name));
  }
  fs.writeFileSync(path.join(clone, 'package.json'), '{ "version": "1.2.3-rc.1" }');
  const script = (...args) => spawnSync(process.execPath, [path.join(clone, 'scripts', 'version.mjs'), ...args], { encoding: 'utf8' });
  const { status, stderr } = script('--check');
  expect(status).toBe(1);
  for (const name of VERSIONED.slice(1)) expect(stderr).toContain(`${name} has version ${version}, and package.json 1.2.3-rc.1`);
  expect(script().status).toBe(0);
  expect(script('--check')).toMatchObject({ status: 0, stderr: '' });
  // Only the versions of this workspace have changed.
  for (const name of VERSIONED.slice(1)) {
    const lines = (text) => text.split('\n');
    const before = lines(read(name));
    const changed = lines(read(name, clone)).filter((line, index) => line !== before[index]);
    expect([name, new Set(changed.map((line) => line.includes('1.2.3-rc.1')))]).toEqual([name, new Set([true])]);
  }
});

test('targets: each has its case in native.js, its build in release.yml and its row in deny.toml', () => {
  const source = `import { TARGETS } from '${ROOT}/scripts/dist/targets.mjs'; console.log(JSON.stringify(TARGETS));`;
  const targets = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' }));
  expect(targets).toHaveLength(6);
  for (const { suffix, triple, os, cpu } of targets) {
    expect(read('native.js')).toContain(`require('@ally/background-process-manager-${suffix}')`);
    expect(read('.github/workflows/release.yml')).toContain(`- { target: ${suffix}, os: `);
    expect(read('deny.toml')).toContain(`"${triple}"`);
    expect(read('lib/addon-missing.js')).toContain(`'${os}-${cpu}'`);
  }
});
