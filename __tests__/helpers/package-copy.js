'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { ROOT } = require('./needs');

/** A copy of this package with its guardian, which a test can break without harm to others. */
function copyPackage(world) {
  const copy = world.path('package');
  for (const name of ['index.js', 'native.js', 'package.json', 'lib', 'cli', 'prebuilt']) {
    fs.cpSync(path.join(ROOT, name), path.join(copy, name), { recursive: true });
  }
  return { copy, guardian: path.join(copy, 'prebuilt', `${process.platform}-${process.arch}`, 'ally-guardian') };
}

module.exports = { copyPackage };
