'use strict';

const path = require('node:path');
const { spawnSync } = require('node:child_process');
const { ROOT } = require('../helpers/needs');
const { withEnvironment } = require('../helpers/proc');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

test('examples/hot-reload: edits of a plugin upgrade it, and no request fails', () => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [path.join(ROOT, 'examples', 'hot-reload', 'demo.mjs')], {
    encoding: 'utf8',
    env: { ...process.env, TMPDIR: world.dir, TEST_WORLD: world.dir },
    timeout: 25_000,
  });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  expect(stdout).toMatch(/hello 5\n/);
  expect(stdout).toContain('ERR_UPGRADE, the old one serves on: hello 5');
  expect(stdout).toMatch(/hello again\n\d+ requests answered, 0 failed\n$/);
  expect(withEnvironment(world.dir)).toEqual([]);
});
