'use strict';

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

testOnLinux("readiness 'accept': one connection waits in the queue, however long, and is not made again", async () => {
  const marker = world.path('count');
  // More than two of the seconds after which a connection is asked whether it leads to the socket still.
  const config = world.config('plugin', ['counts-connections.py', 2_200, marker], { readiness: { type: 'accept' } });
  await world.manager().startProcess(config);
  // Accepted a moment before it is counted.
  expect(await until(() => fs.existsSync(marker) && fs.readFileSync(marker, 'utf8'))).toBe('1');
});
