'use strict';

const fs = require('node:fs');
const { errorWith, useCommandedOwner } = require('../helpers/commanded-owner');
const { SOMEBODY, as, testWith } = require('../helpers/needs');
const { inject } = require('../helpers/strace');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();
const { commandedOwner, config, supervisorThread } = useCommandedOwner(world);

// As root the descriptors of such a daemon can be read.
testWith(
  'another user that can load the package',
  'strace',
  '/usr/bin/python3',
)('startupTimeout: the search for the holder of a socket is repeated at growing intervals, and the message says why', async () => {
  for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
  const owner = commandedOwner({}, { before: as(SOMEBODY) });
  // The interpreter of the other fixtures may be in a home that another user can't enter.
  const hides = { command: '/usr/bin/python3', socketPath: world.path('s'), startupTimeout: 2_000 };
  expect((await owner.asks('startProcess', config('warm', [], { command: '/bin/true', socketPath: world.path('w') }))).error.code).toBe(
    'ERR_STARTUP_EXIT',
  );
  const trace = await inject(world, await supervisorThread(owner), ['getdents64:delay_enter=1'], { file: '/proc' });
  const { error } = await owner.asks('startProcess', config('plugin', ['hides-an-inherited-listener.py'], hides));
  await trace.stop();
  expect(error).toEqual(errorWith('ERR_STARTUP_TIMEOUT', 'which is gone', 'no process that holds it can be found', 'not dumpable'));
  // Pauses of 5, 10, 20 … 640 ms. A search reads the folder /proc with two calls or a few more.
  const searches = trace.calls().filter((line) => / = 0\b/.test(line)).length;
  expect(searches).toBeGreaterThan(2);
  expect(searches).toBeLessThan(20);
});
