'use strict';

// What waits for readiness ends with the start: nobody connects to the path any more, and the folder is not watched.

const fs = require('node:fs');
const net = require('node:net');
const { testOnLinux } = require('../helpers/needs');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

/** The inotify watches of this process. */
function watches() {
  const lines = fs.readdirSync('/proc/self/fdinfo').flatMap((fd) => {
    try {
      return fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1').split('\n');
    } catch {
      return []; // the one that listed them
    }
  });
  return lines.filter((line) => line.startsWith('inotify ')).length;
}

const watchesAre = (count) => until(() => watches() === count, 3_000, `${count} inotify watches, not ${watches()}`);

const FAILED = [
  ['startupTimeout', ['never-binds.py'], { startupTimeout: 300 }, () => {}],
  ['the daemon exits', ['differs-by-start.py', 'refuse'], {}, () => {}],
  ['stopProcess', ['never-binds.py'], {}, (manager) => manager.stopProcess('plugin')],
];

describe.each(FAILED)('after a start that failed (%s)', (cause, [fixture, ...args], changes, act) => {
  async function fail(manager) {
    const config = world.config('plugin', [fixture, ...(args.length > 0 ? [world.path('counter'), ...args] : [])], changes);
    const start = watch(manager.startProcess(config));
    if (cause === 'stopProcess') await until(() => manager.getPid('plugin'));
    await act(manager);
    await failure(start.promise);
  }

  test('nobody connects to socketPath', async () => {
    const manager = world.manager();
    await fail(manager);
    let connections = 0;
    let ours = false;
    const server = net.createServer((client) => {
      connections++;
      client.on('data', () => (ours = true)).on('error', () => {});
    });
    world.finally(() => new Promise((resolve) => server.close(resolve)));
    await new Promise((resolve) => server.listen(world.socket('plugin'), resolve));
    // The news of this daemon's folder come after those of the other's, on the thread that would connect.
    await manager.startProcess(world.config('another'));
    const client = net.connect(world.socket('plugin'), () => client.write('x'));
    // Accepted in the order in which they came.
    await until(() => ours);
    client.destroy();
    expect(connections).toBe(1);
  });

  testOnLinux('its inotify watch is removed', async () => {
    const manager = world.manager();
    const before = watches();
    await fail(manager);
    await watchesAre(before);
  });
});

testOnLinux(
  'inotify watches: of the folder and daemon.lock while a daemon starts, of daemon.lock while it runs, none after a stop',
  async () => {
    const manager = world.manager();
    const before = watches();
    const names = Array.from({ length: 10 }, (_, index) => `plugin-${index}`);
    for (const round of [1, 2]) {
      const marker = world.path(`listen-${round}`);
      const starts = names.map((name) => manager.startProcess(world.config(name, ['listens-late.py', marker])));
      await watchesAre(before + 2 * names.length);
      fs.writeFileSync(marker, '');
      await Promise.all(starts);
      await watchesAre(before + names.length);
      await Promise.all(names.map((name) => manager.stopProcess(name)));
      await watchesAre(before);
    }
  },
);
