'use strict';

// A large output byte for byte. ALLY_LOG_MIB=1024 prints as much as that.

const crypto = require('node:crypto');
const fs = require('node:fs');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { logFiles } = require('./numbered');

const MIB = Number(process.env.ALLY_LOG_MIB ?? 64);
const world = useWorld();

test(
  'logs.file: a large output is in the files byte for byte, over rotations and lines of all lengths',
  async () => {
    const file = world.path('plugin.log');
    const digest = world.path('digest');
    const manager = world.manager();
    const logs = { file, maxSize: 5_000_000, maxFiles: 10_000 };
    await manager.startProcess(world.config('plugin', ['prints-bytes.py', MIB, digest], { logs }));
    process.kill(manager.getPid('plugin'), 'SIGUSR1');
    await until(() => fs.existsSync(digest), 30_000 + MIB * 100, 'everything is printed');
    await manager.stopProcess('plugin');
    const hash = crypto.createHash('sha256');
    // The end of the daemon waits 200 ms for the log at most.
    await until(() => fs.readFileSync(file, 'latin1').endsWith('the end'), 10_000, 'everything is in the file');
    const files = logFiles(file);
    for (const { path } of files) hash.update(fs.readFileSync(path));
    expect(hash.digest('hex')).toBe(fs.readFileSync(digest, 'utf8'));
    expect(files.length).toBeGreaterThan(MIB / 5);
  },
  60_000 + MIB * 200,
);
