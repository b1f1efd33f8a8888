'use strict';

const fs = require('node:fs');
const os = require('node:os');
const { testOnLinux } = require('../helpers/needs');
const { close, freePort, listenAt } = require('../helpers/ports');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

const tcp = (port, fields) => ({ readiness: { type: 'tcp', port, ...fields } });
const listens = (host, port, ...rest) => ['answers-http.py', `${host} ${port}`, ...(rest.length > 0 ? rest : ['ok'])];

async function timedOut(fixture, changes) {
  const error = await failure(world.manager().startProcess(world.config('plugin', fixture, { startupTimeout: 600, ...changes })));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expectNothingLeft(world, 'plugin');
  return error.message;
}

test.each([
  ['127.0.0.1', undefined],
  ['::1', undefined],
  ['127.0.0.1', '127.0.0.1'],
  ['0.0.0.0', 'localhost'],
  ['::1', '::1'],
  ['::1', '[::1]'],
])('readiness tcp: a daemon at %s is ready where host is %s', async (at, host) => {
  const port = await freePort();
  await world.manager().startProcess(world.config('plugin', listens(at, port), tcp(port, { host })));
});

test('readiness tcp: a host that must be looked up is looked up', async () => {
  const port = await freePort();
  await world.manager().startProcess(world.config('plugin', listens('0.0.0.0', port), tcp(port, { host: os.hostname() })));
});

test('readiness tcp: a daemon is not ready before it listens', async () => {
  const port = await freePort();
  const go = world.path('go');
  const manager = world.manager();
  const start = watch(manager.startProcess(world.config('plugin', listens('127.0.0.1', port, 'late', go), tcp(port))));
  await until(() => manager.getOutput('plugin').includes('waits'));
  expect(start.settled).toBe(false);
  fs.writeFileSync(go, '');
  await start.promise;
});

test('readiness tcp: the error says where the connection was refused, by which probe and after how long', async () => {
  const port = await freePort();
  expect(await timedOut(listens('127.0.0.1', await freePort()), tcp(port))).toMatch(
    new RegExp(
      `\\(not ready within 600 ms: connection refused at 127\\.0\\.0\\.1:${port} and \\[::1\\]:${port} \\(probe tcp, after [\\d.]+ ms\\)\\)`,
    ),
  );
});

test('readiness tcp: a host that is not known is named', async () => {
  const message = await timedOut(listens('127.0.0.1', await freePort()), tcp(1, { host: 'unknown.invalid' }));
  expect(message).toContain("the name unknown.invalid can't be looked up");
});

testOnLinux('readiness tcp: a client that connects to itself is no daemon', async () => {
  // A port of the range for clients: the kernel gives each of them to a client that chooses none.
  const [low] = fs.readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split('\t').map(Number);
  const range = fs.readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
  fs.writeFileSync('/proc/sys/net/ipv4/ip_local_port_range', `${low} ${low + 1}`);
  world.finally(() => fs.writeFileSync('/proc/sys/net/ipv4/ip_local_port_range', range));
  expect(await timedOut(['never-binds.py'], tcp(low, { host: '127.0.0.1' }))).toContain(`connection refused at 127.0.0.1:${low}`);
});

testOnLinux.each(['127.0.0.1', '::1'])('readiness tcp: a foreign listener at %s is ERR_SOCKET_IN_USE before the spawn', async (host) => {
  const server = await listenAt(host);
  world.finally(() => close(server));
  let connections = 0;
  server.on('connection', () => connections++);
  const { port } = server.address();
  const manager = world.manager();
  const error = await failure(manager.startProcess(world.config('plugin', ['never-binds.py'], tcp(port))));
  expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: process.pid });
  expect(error.message).toContain(`${port} is in use by process ${process.pid}`);
  expect(manager.getOutput('plugin')).toEqual([]);
  expect(connections).toBe(0);
});

testOnLinux('readiness tcp: a foreign listener that comes after the spawn is ERR_SOCKET_IN_USE at once', async () => {
  const port = await freePort();
  const manager = world.manager();
  const start = failure(manager.startProcess(world.config('plugin', ['never-binds.py'], tcp(port))));
  await until(() => manager.getPid('plugin') !== undefined);
  const server = await listenAt('127.0.0.1', port);
  world.finally(() => close(server));
  expect(await start).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: process.pid });
});

testOnLinux('readiness tcp: a listener of a grandchild counts', async () => {
  const port = await freePort();
  const config = world.config('plugin', listens('127.0.0.1', port), tcp(port));
  await world.manager().startProcess({ ...config, command: '/bin/sh', args: ['-c', '"$@" & wait', 'sh', config.command, ...config.args] });
});
