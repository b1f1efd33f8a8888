'use strict';

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { identify, signal } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

const TIMEOUT = 1_500;

testOnLinux('startupTimeout: the error has the last line that the daemon wrote before, also when nobody had read it yet', async () => {
  const [go, done] = [world.path('go'), world.path('done')];
  // More than the owner reads of a pipe at once, and less than it reads at most for an error.
  const fixture = ['fills-pipe.py', go, done, 768, 'the very last line'];
  const owner = world.owner('starts-and-ends.js', {
    configs: [world.config('plugin', fixture, { startupTimeout: TIMEOUT })],
    when: 'starting',
  });
  await owner.says('ready');
  const armed = performance.now();

  // The daemon writes, and then its time is over, while the owner stands still.
  const self = identify(owner.pid);
  world.finally(() => signal(self, 'SIGCONT'));
  signal(self, 'SIGSTOP');
  expect(performance.now() - armed).toBeLessThan(TIMEOUT - 100);
  fs.writeFileSync(go, '');
  await until(() => fs.existsSync(done) && performance.now() > armed + TIMEOUT);
  signal(self, 'SIGCONT');

  const { code, message } = await owner.says('failed');
  expect(code).toBe('ERR_STARTUP_TIMEOUT');
  expect(message).toContain('the very last line');
});
