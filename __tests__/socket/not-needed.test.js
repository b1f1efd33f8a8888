'use strict';

const fs = require('node:fs');
const { close, freePort, listenAt } = require('../helpers/ports');
const { failure } = require('../helpers/promises');
const { alive } = require('../helpers/proc');
const { connects } = require('../helpers/sockets');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

const output = { readiness: { type: 'output', pattern: 'ready' } };
const prints = ['prints-pieces.py', 'ready\\n'];
const health = (probe) => ({ healthcheck: { interval: 5_000, timeout: 500, retries: 3, ...(probe && { probe }) } });

test('socketPath: without a probe that needs it, another program there hinders no start and hears nothing', async () => {
  const marker = world.path('connected');
  const program = world.program(['counts-connections.py', 0, marker]);
  const socketPath = world.path('program.sock');
  await until(() => fs.existsSync(socketPath));
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', prints, { socketPath, ...output }));
  await manager.stopProcess('plugin');
  expect(alive(program)).toBe(true);
  expect(fs.existsSync(marker)).toBe(false);
});

test.each([
  ['a regular file', (path) => fs.writeFileSync(path, 'mine')],
  ['a dead socket', async (path) => close(await listenDead(path))],
])('socketPath: without a probe that needs it, %s there stays, at the start, the restart and the stop', async (_, make) => {
  const socketPath = world.path('kept');
  await make(socketPath);
  const before = fs.lstatSync(socketPath).ino;
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', prints, { socketPath, restart: { delay: 0 }, ...output }));
  process.kill(manager.getPid('plugin'), 'SIGKILL');
  await until(() => manager.getProcessInfo('plugin').totalRestarts === 1 && manager.isRunning('plugin'));
  await manager.stopProcess('plugin');
  expect(fs.lstatSync(socketPath).ino).toBe(before);
});

/** A server whose socket file is left behind. */
async function listenDead(path) {
  const net = require('node:net');
  const server = net.createServer();
  await new Promise((resolve) => server.listen(`${path}.live`, resolve));
  fs.renameSync(`${path}.live`, path);
  return server;
}

test('socketPath: two plugins may have the same one if neither needs it, and one if the other does not', async () => {
  const manager = world.manager();
  const socketPath = world.path('shared');
  await manager.startProcess(world.config('one', prints, { socketPath, ...output }));
  await manager.startProcess(world.config('two', prints, { socketPath, ...output }));
  await manager.startProcess(world.config('three', ['serves.py'], { socketPath }));
  const error = await failure(manager.startProcess(world.config('four', ['serves.py'], { socketPath })));
  expect(error.code).toBe('ERR_SOCKET_IN_USE');
  expect(error.message).toContain("in use by plugin 'three'");
  // A stop of a plugin that does not need the path leaves it to the one that does.
  await manager.stopProcess('one');
  expect(await connects(socketPath)).toBe(true);
});

test('socketPath: a health check without probe needs it', async () => {
  const manager = world.manager();
  const socketPath = world.path('file');
  fs.writeFileSync(socketPath, '');
  const config = world.config('plugin', prints, { socketPath, ...output, ...health() });
  expect((await failure(manager.startProcess(config))).code).toBe('ERR_SOCKET_IN_USE');
  await manager.startProcess({ ...config, ...health({ type: 'tcp', port: await freePort() }) });
});

test('socketPath: a pending restart moves its claim with the configuration of a start', async () => {
  const manager = world.manager();
  const socketPath = world.path('claimed');
  const config = world.config('plugin', ['serves.py'], { socketPath, restart: { delay: 60_000, jitter: 0 } });
  await manager.startProcess(config);
  process.kill(manager.getPid('plugin'), 'SIGKILL');
  await until(() => manager.getProcessInfo('plugin').nextRestartAt !== undefined && !fs.existsSync(world.pidFile('plugin')));
  await manager.startProcess({ ...config, args: world.config('x', prints).args, ...output });
  // Nobody claims the path any more.
  await manager.startProcess(world.config('other', ['serves.py'], { socketPath }));
});

test('healthcheck.probe tcp: a foreign listener at the port is ERR_SOCKET_IN_USE before the spawn', async () => {
  const server = await listenAt('127.0.0.1');
  world.finally(() => close(server));
  const config = world.config('plugin', prints, { ...output, ...health({ type: 'tcp', port: server.address().port }) });
  expect((await failure(world.manager().startProcess(config))).code).toBe('ERR_SOCKET_IN_USE');
});
