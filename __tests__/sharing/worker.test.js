'use strict';

const { identify, alive } = require('../helpers/proc');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useSessions } = require('./sessions');

const world = useWorld();
const { shared, host, hostGone } = useSessions(world);

/** How long the end of a session takes until the daemon is gone. */
const END = 2_000;

const inWorker = (configs) => world.owner('outlives-worker.js', { configs }, { ipc: true });

test('the end of a worker ends its hold: the daemon goes on for the session of another process', async () => {
  const owner = inWorker([shared()]);
  const { plugin } = await owner.says('ready');
  const daemon = identify(plugin);
  const other = world.manager();
  await other.startProcess(shared());
  expect(other.getProcessInfo('plugin').sessions).toBe(2);
  owner.child.send('end');
  await owner.says('terminated');
  await until(() => other.getProcessInfo('plugin').sessions === 1, END);
  expect(identify(other.getPid('plugin'))).toEqual(daemon);
  await other.stopProcess('plugin');
  expect(alive(daemon)).toBe(false);
});

test('the end of the worker that is the last session stops the daemon, while the process of the worker lives on', async () => {
  const owner = inWorker([shared()]);
  const { plugin } = await owner.says('ready');
  const daemon = identify(plugin);
  expect(host()).toBeDefined();
  owner.child.send('end');
  await owner.says('terminated');
  await until(() => !alive(daemon), END);
  await hostGone(END);
  expect(alive(identify(owner.pid))).toBe(true);
});
