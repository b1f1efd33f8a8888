'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { close, freePort, listenAt } = require('../helpers/ports');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { useHealthChecks } = require('./checks');

const world = useWorld();
const { checks, healthy, sick, started } = useHealthChecks(world);

const answers = (...args) => ['answers-http.py', ...args];
const http = (fields) => ({ type: 'http', path: '/healthz', ...fields });

test('healthcheck.probe http: passes for 200, and needs no readiness http', async () => {
  const manager = world.manager();
  const events = record(manager);
  await started(manager, ['serves-http.py'], { probe: http() });
  await checks(events, 5, healthy);
  expect(events.of('health').filter(sick)).toEqual([]);
});

test('healthcheck.probe http: fails at another status, and error, lastError and the restart say why', async () => {
  const manager = world.manager();
  const events = record(manager);
  const go = world.path('go');
  fs.writeFileSync(go, '');
  // The next readiness would end `lastError`.
  const restart = { delay: 60_000 };
  await started(manager, answers('socket', 'unavailable-until', go), { probe: http(), retries: 2 }, { restart });
  await checks(events, 1, healthy);
  fs.unlinkSync(go);
  await until(() => events.of('restart').length > 0);
  const reason = /^HTTP 503 from GET \/healthz \(probe http, after [\d.]+ ms\)$/;
  expect(events.of('health').find(sick).error).toMatch(reason);
  expect(events.of('restart')[0].reason).toBe('unhealthy');
  expect(manager.getProcessInfo('plugin').lastError).toContain('unhealthy after 2 failed health checks: HTTP 503 from GET /healthz');
});

test.each([
  ['an answer that does not come within timeout', ['silent'], 100, 'no answer to GET /healthz'],
  ['another status without an end', ['held-open', 'HTTP/1.1 503 Down'], 100, 'HTTP 503 from GET /healthz'],
  ['another protocol', ['garbage'], 10_000, 'no HTTP answer to GET /healthz, but "SSH-2.0-fixture"'],
])('healthcheck.probe http: %s fails', async (_, args, timeout, reason) => {
  const manager = world.manager();
  const events = record(manager);
  await started(manager, answers('socket', ...args), { probe: http(), timeout, retries: 1 });
  await checks(events, 1, sick);
  expect(events.of('health').find(sick).error).toContain(`${reason} (probe http, after `);
});

test('healthcheck.probe tcp: passes while the daemon listens, and fails at once after it has closed the port', async () => {
  const manager = world.manager();
  const events = record(manager);
  const port = await freePort();
  const go = world.path('go');
  const healthcheck = { probe: { type: 'tcp', port }, retries: 1, timeout: 5_000 };
  await started(manager, ['listens-until.py', port, go], healthcheck, { readiness: { type: 'tcp', port } });
  await checks(events, 3, healthy);
  fs.writeFileSync(go, '');
  await checks(events, 1, sick);
  const { error, latency } = events.of('health').find(sick);
  expect(error).toContain(`connection refused at 127.0.0.1:${port} and [::1]:${port} (probe tcp, after `);
  expect(latency).toBeLessThan(1_000);
});

testOnLinux('healthcheck.probe tcp: another process at the port is no answer of the daemon', async () => {
  const manager = world.manager();
  const events = record(manager);
  const port = await freePort();
  await started(manager, ['serves.py'], { probe: { type: 'tcp', port, host: '127.0.0.1' }, interval: 500, retries: 1 });
  const server = await listenAt('127.0.0.1', port);
  world.finally(() => close(server));
  await checks(events, 1, sick);
  expect(events.of('health').find(sick).error).toBe(`another process answers at 127.0.0.1:${port} (pid ${process.pid})`);
});
