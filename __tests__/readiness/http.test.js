'use strict';

const fs = require('node:fs');
const { testOnLinux } = require('../helpers/needs');
const { close, freePort, listenAt } = require('../helpers/ports');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

const http = (fields) => ({ readiness: { type: 'http', path: '/healthz', ...fields } });
const answers = (...args) => ['answers-http.py', ...args];
const started = (fixture, changes) => world.manager().startProcess(world.config('plugin', fixture, changes));

/** The error of a start whose probe never passes. */
async function timedOut(fixture, changes) {
  const error = await failure(started(fixture, { startupTimeout: 700, ...changes }));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expectNothingLeft(world, 'plugin');
  return error.message;
}

test('readiness http: http.server at a Unix socket passes', () => started(['serves-http.py'], http()));

test.each(['127.0.0.1', '::1'])('readiness http: http.server at %s passes where host is localhost', async (host) => {
  const port = await freePort();
  await started(['serves-http.py', host, port], http({ port }));
});

test('readiness http: the request is a GET of path with Host localhost', async () => {
  const manager = world.manager();
  const probe = http({ path: '/health?full=%20' });
  await manager.startProcess(world.config('plugin', answers('socket', 'ok'), probe));
  await until(() => manager.getOutput('plugin').length > 0);
  expect(manager.getOutput('plugin')).toEqual(['GET /health?full=%20 HTTP/1.1']);
});

test('readiness http: a daemon that answers 503 is asked again until it answers 200', async () => {
  const go = world.path('go');
  const start = watch(started(answers('socket', 'unavailable-until', go), http()));
  await until(() => world.managers[0].getOutput('plugin').length >= 3);
  expect(start.settled).toBe(false);
  fs.writeFileSync(go, '');
  await start.promise;
});

test.each([
  ['the default takes 200 to 299', 299, undefined, true],
  ['the default follows no redirect', 302, undefined, false],
  ['a number takes that status alone', 401, 401, true],
  ['a number refuses others', 200, 401, false],
  ['a range takes its ends', 404, [200, 404], true],
  ['a range refuses what is above', 405, [200, 404], false],
])('readiness http, status: %s', async (_, code, status, passes) => {
  const fixture = answers('socket', 'status', code);
  if (passes) return started(fixture, http({ status }));
  expect(await timedOut(fixture, http({ status }))).toMatch(
    new RegExp(`\\(not ready within 700 ms: HTTP ${code} from GET /healthz \\(probe http, after [\\d.]+ ms\\)\\)`),
  );
});

test.each([
  ['a chunked answer on a connection that stays open', ['chunked']],
  ['an answer behind an informational one', ['continues']],
  ['an answer of HTTP/1.0', ['head', 'HTTP/1.0 200 OK']],
  ['an answer without a read of the request', ['resets']],
  ['an endless body, of which at most 64 KiB are read', ['endless-body']],
])('readiness http: %s passes', async (_, args) => {
  await started(answers('socket', ...args), http());
});

test.each([
  ['no answer', ['silent'], 'no answer to GET /healthz'],
  ['a connection closed without an answer', ['closes'], 'the connection was closed without an answer to GET /healthz'],
  ['an answer that ends early', ['half'], 'the connection was closed in the middle of the answer to GET /healthz'],
  ['an endless head', ['endless-head'], 'the head of the answer to GET /healthz is longer than 64 KiB'],
  ['another protocol, without its escape sequences', ['garbage'], 'no HTTP answer to GET /healthz, but "SSH-2.0-fixture" (probe http'],
])('readiness http: %s does not pass, and the error says so', async (_, args, reason) => {
  expect(await timedOut(answers('socket', ...args), http())).toContain(`(not ready within 700 ms: ${reason}`);
});

test.each([
  ['another status', 'HTTP/1.1 503 Down', 'HTTP 503 from GET /healthz'],
  ['another status, and a body that is no HTTP', 'HTTP/1.1 404 No|Transfer-Encoding: chunked', 'HTTP 404 from GET /healthz'],
  ['a status that passes', 'HTTP/1.1 200 OK', 'no end of the answer to GET /healthz, whose status is 200'],
])('readiness http: the error names the status of an answer that has no end: %s', async (_, head, reason) => {
  const fixture = answers('socket', 'held-open', head);
  expect(await timedOut(fixture, http())).toContain(`(not ready within 700 ms: ${reason} (probe http`);
});

test('readiness http: the error names the status of an answer that has no end, also after several tries', async () => {
  const config = { ...http(), startupTimeout: 1_400 };
  const error = await failure(
    world.manager().startProcess(world.config('plugin', answers('socket', 'held-open', 'HTTP/1.1 503 Down'), config)),
  );
  expect(error.message).toContain('(not ready within 1400 ms: HTTP 503 from GET /healthz (probe http');
});

test('readiness http: one try takes at most 1 s', async () => {
  const manager = world.manager();
  const start = watch(manager.startProcess(world.config('plugin', answers('socket', 'silent'), http())));
  // The fixture serves one connection after the other, and keeps each.
  await until(() => manager.getOutput('plugin').length >= 2, 5_000);
  expect(start.settled).toBe(false);
  await manager.stopProcess('plugin');
  expect((await failure(start.promise)).code).toBe('ERR_STOPPED');
});

test('readiness http with port: a refused connection is named with its addresses', async () => {
  const port = await freePort();
  expect(await timedOut(answers(`127.0.0.1 ${await freePort()}`, 'ok'), http({ port }))).toMatch(
    new RegExp(`connection refused at 127\\.0\\.0\\.1:${port} and \\[::1\\]:${port} \\(probe http, after [\\d.]+ ms\\)`),
  );
  expect(await timedOut(answers(`127.0.0.1 ${await freePort()}`, 'ok'), http({ port, host: '127.0.0.1' }))).toContain(
    `connection refused at 127.0.0.1:${port} (probe http`,
  );
});

test('readiness http: another program at the Unix socket is no answer of the daemon', async () => {
  const manager = world.manager();
  const start = failure(manager.startProcess(world.config('plugin', ['never-binds.py'], http())));
  await until(() => manager.getPid('plugin') !== undefined);
  const { pid } = world.program(answers('socket', 'ok'), { socketPath: world.socket('plugin') });
  const error = await start;
  expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid });
});

testOnLinux('readiness http with port: another program at the port is ERR_SOCKET_IN_USE, and hears nothing', async () => {
  const server = await listenAt('127.0.0.1');
  world.finally(() => close(server));
  let connections = 0;
  server.on('connection', () => connections++);
  const { port } = server.address();
  const error = await failure(started(answers(`127.0.0.1 ${await freePort()}`, 'ok'), http({ port })));
  expect(error).toMatchObject({ code: 'ERR_SOCKET_IN_USE', pid: process.pid });
  expect(error.message).toContain(`socket 127.0.0.1:${port} is in use by process ${process.pid}`);
  expect(connections).toBe(0);
});
