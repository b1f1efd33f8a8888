'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { failure, watch } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');

const world = useWorld();

const output = (pattern, fields) => ({ readiness: { type: 'output', pattern, ...fields } });
const prints = (...pieces) => ['prints-pieces.py', ...pieces];
const start = (fixture, changes) => world.manager().startProcess(world.config('plugin', fixture, changes));

async function timedOut(fixture, changes) {
  const error = await failure(start(fixture, { startupTimeout: 600, ...changes }));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expectNothingLeft(world, 'plugin');
  return error.message;
}

test('readiness output: a line of stdout or stderr that matches ends the start', async () => {
  await start(prints('starting\\n', 'ready on port 80\\n'), output('ready on port \\d+$'));
});

test('readiness output: a line of stderr counts', () => start(prints('err:ready\\n'), output('^ready$')));

test('readiness output: a line that comes in several writes counts once it is whole', async () => {
  const go = world.path('go');
  const waiting = watch(start(prints('rea', 'dy', `wait:${go}`, ' now\\n'), output('^ready now$')));
  await until(() => world.managers[0].getOutput('plugin').includes('ready'));
  expect(waiting.settled).toBe(false);
  fs.writeFileSync(go, '');
  await waiting.promise;
});

test('readiness output: half a line does not count because somebody listens to the output', async () => {
  const manager = world.manager();
  manager.on('output', () => {});
  const changes = { startupTimeout: 600, ...output('^ready$') };
  // Often enough that some reads end between the two.
  const pieces = Array.from({ length: 200 }, () => ['ready', ' in a moment\\n']).flat();
  const error = await failure(manager.startProcess(world.config('plugin', prints(...pieces), changes)));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
});

test('readiness output: a prompt without a newline counts', () => start(prints('ready> '), output('^ready> $')));

test('readiness output, stream: a line of the other stream does not count', async () => {
  expect(await timedOut(prints('err:ready\\n'), output('ready', { stream: 'stdout' }))).toContain(
    '(not ready within 600 ms: no line came on stdout (probe output))',
  );
  await start(prints('err:ready\\n'), output('ready', { stream: 'stderr' }));
});

test('readiness output: the error counts the lines that do not match', async () => {
  expect(await timedOut(prints('one\\n', 'err:two\\n'), output('ready'))).toContain(
    '(not ready within 600 ms: none of 2 lines of stdout and stderr matches (probe output))',
  );
});

test('readiness output: in a flood of more than 1 MiB/s the rest is not matched, and the error says so', async () => {
  expect(await timedOut(prints('flood:8', 'ready\\n'), output('^ready$'))).toMatch(
    /none of \d+ lines of stdout and stderr matches; \d+ more were not matched: more than 1 MiB, .* in a second \(probe output\)/,
  );
});

test('readiness output: only the first 4 KiB of a line count', async () => {
  await timedOut(prints('x'.repeat(4_096), 'ready\\n'), output('ready'));
  await start(prints('x'.repeat(4_091), 'ready\\n'), output('ready'));
});

test('readiness output: a line of the former attempt does not make the restart ready', async () => {
  const manager = world.manager();
  const events = record(manager);
  const first = world.path('first');
  const config = world.config('plugin', [], {
    command: '/bin/sh',
    args: ['-c', 'if [ -e "$1" ]; then echo again; exec sleep 50; fi; >"$1"; echo ready; exec sleep 50', 'sh', first],
    startupTimeout: 500,
    restart: { delay: 0, maxAttempts: 1 },
    ...output('ready'),
  });
  await manager.startProcess(config);
  process.kill(manager.getPid('plugin'), 'SIGKILL');
  await until(() => manager.getState('plugin') === 'error');
  await until(() => events.states('plugin').length === 5);
  expect(events.states('plugin')).toEqual(['starting', 'running', 'starting', 'stopping', 'error']);
  expect(manager.getProcessInfo('plugin').lastError).toContain('the only line of stdout and stderr does not match (probe output)');
});

test('readiness output: a daemon that prints the line and exits is ERR_STARTUP_EXIT', async () => {
  const config = world.config('plugin', [], { command: '/bin/sh', args: ['-c', 'exit 3'], ...output('ready') });
  expect(await failure(world.manager().startProcess(config))).toMatchObject({ code: 'ERR_STARTUP_EXIT', exitCode: 3 });
});

test('readiness output: the pattern is checked with the configuration', async () => {
  const refused = async (pattern) => {
    const error = await failure(start(prints(), output(pattern)));
    expect(error.code).toBe('ERR_INVALID_CONFIG');
    return error.message;
  };
  expect(await refused('(ready')).toContain('readiness.pattern must be a regular expression without lookaround and backreferences: ');
  expect(await refused(/ready/)).toContain('readiness.pattern must be a string, got a RegExp: give its source, as in /ready/.source');
  expect(await refused(new (class Mine extends RegExp {})('x'))).toContain('give its source');
  expect(world.managers[0].listProcesses()).toEqual([]);
});
