'use strict';

const fs = require('node:fs');
const { record } = require('../helpers/events');
const { testOnLinux } = require('../helpers/needs');
const { alive, environment, stat } = require('../helpers/proc');
const { failure } = require('../helpers/promises');
const { until } = require('../helpers/until');
const { expectNothingLeft, useWorld } = require('../helpers/use-world');
const { LEAVES_A_STRAY, shell, useCommands } = require('./commands');

const world = useWorld();
const { checkedBy } = useCommands(world);
const notReady = (readiness, startupTimeout = 400) => world.config('plugin', ['never-binds.py'], { readiness, startupTimeout });

test('readiness exec: a daemon without a socket is ready when the command exits with 0', async () => {
  const manager = world.manager();
  const tries = world.path('tries');
  await manager.startProcess(notReady(shell('echo >>"$1"; [ $(wc -l <"$1") -ge 3 ]', tries), 15_000));
  expect(fs.readFileSync(tries, 'utf8')).toBe('\n\n\n');
  expect(manager.isRunning('plugin')).toBe(true);
  await manager.stopProcess('plugin');
  expectNothingLeft(world, 'plugin');
});

testOnLinux('readiness exec: the command has the environment and the folder of the daemon, and a process group of its own', async () => {
  const manager = world.manager();
  const file = world.path('seen');
  const script = 'cat /proc/$$/environ >"$1"; cat /proc/$$/stat >"$1.stat"; pwd >"$1.pwd"; readlink /proc/$$/fd/0 >"$1.in"';
  await manager.startProcess({ ...notReady(shell(script, file), 15_000), envVars: { SECRET: 'a=b', LARGE: 'x'.repeat(100_000) } });
  const leader = manager.getPid('plugin');
  const entries = fs.readFileSync(file, 'latin1').split('\0').filter(Boolean);
  const seen = new Map(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));
  const expected = environment(leader);
  // Names only, so that a failure prints no value.
  expect([...seen.keys()].sort()).toEqual([...expected.keys()].sort());
  expect([...seen].filter(([key, value]) => expected.get(key) !== value).map(([key]) => key)).toEqual([]);
  expect(seen.get('SECRET')).toBe('a=b');
  expect(fs.readFileSync(`${file}.pwd`, 'utf8').trim()).toBe(fs.realpathSync(world.pluginPath));
  expect(fs.readFileSync(`${file}.in`, 'utf8').trim()).toBe('/dev/null');
  const [, , group, session] = fs.readFileSync(`${file}.stat`, 'utf8').split(') ')[1].split(' ').map(Number);
  expect(group).not.toBe(stat(leader).group);
  expect(session).toBe(stat(leader).session);
});

test.each([
  ['an exit code and the last line', shell('echo one; echo "\u001b[31mtwo  " >&2; echo; exit 2'), 'exit code 2: two'],
  ['an exit code alone', shell('exit 7'), 'exit code 7'],
  ['a long last line', shell(`printf %0999d 1; exit 1`), `exit code 1: ${'0'.repeat(200)}…`],
  ['a signal', shell('echo gone; kill -SEGV $$'), 'killed by SIGSEGV'],
  ['no such program', { type: 'exec', command: 'no-such-program' }, 'ENOENT: program no-such-program not found in PATH'],
  ['no such path', { type: 'exec', command: '/no/such/program' }, 'ENOENT: program /no/such/program not found'],
  ['not executable', { type: 'exec', command: '/etc/passwd' }, "EACCES: program /etc/passwd can't be run"],
])('readiness exec: the error of the start says what came back: %s', async (_, readiness, text) => {
  const error = await failure(world.manager().startProcess(notReady(readiness)));
  expect(error.code).toBe('ERR_STARTUP_TIMEOUT');
  expect(error.message).toContain(`(not ready within 400 ms: ${text}`);
  expectNothingLeft(world, 'plugin');
});

test('readiness exec: a try that takes longer than 1 s is stopped, and two never run at once', async () => {
  const manager = world.manager();
  const running = world.path('running');
  const file = world.path('overlap');
  // The trap is inherited by what it starts: only SIGKILL ends them.
  const script =
    'trap "" TERM INT; if mkdir "$1" 2>/dev/null; then echo $$ >"$1/pid"; else kill -0 $(cat "$1/pid") && : >"$2"; echo $$ >"$1/pid"; fi; sleep 60 & sleep 60';
  const error = await failure(manager.startProcess(notReady(shell(script, running, file), 2_500)));
  expect(error.message).toMatch(/\(not ready within 2500 ms: not finished within 1000 ms \(probe exec, after \d+ ms\)\)/);
  expect(fs.existsSync(file)).toBe(false);
  expect(alive(Number(fs.readFileSync(`${running}/pid`, 'utf8')))).toBe(false);
  expectNothingLeft(world, 'plugin');
});

test('readiness exec: a start that is stopped ends the command', async () => {
  const manager = world.manager();
  const marker = world.path('pid');
  const start = failure(manager.startProcess(notReady(shell('echo $$ >"$1.new"; mv "$1.new" "$1"; exec sleep 60', marker), 15_000)));
  const command = await world.process(marker);
  await manager.stopProcess('plugin');
  expect((await start).code).toBe('ERR_STOPPED');
  await until(() => !alive(command));
});

test('healthcheck.probe exec: failed checks, then a restart with reason unhealthy', async () => {
  const manager = world.manager();
  const events = record(manager);
  const { marker, leader } = await checkedBy('[ ! -e "$1.sick" ] || { echo disk full; exit 3; }', {
    manager,
    healthcheck: { retries: 2 },
    // The next readiness would end `lastError`.
    restart: { delay: 60_000 },
  });
  await until(() => events.of('health').length >= 3);
  expect(events.of('health').every(({ healthy }) => healthy)).toBe(true);
  fs.writeFileSync(`${marker}.sick`, '');
  await until(() => events.of('restart').length > 0);
  const failed = events.of('health').filter(({ healthy }) => !healthy);
  expect(failed).toMatchObject([
    { failures: 1, error: expect.stringMatching(/^exit code 3: disk full \(probe exec, after [\d.]+ ms\)$/), latency: expect.any(Number) },
    { failures: 2, error: expect.stringContaining('exit code 3: disk full (probe exec, after ') },
  ]);
  expect(manager.getProcessInfo('plugin').lastError).toContain(
    'unhealthy after 2 failed health checks: exit code 3: disk full (probe exec, after ',
  );
  fs.unlinkSync(`${marker}.sick`);
  await until(() => manager.getState('plugin') === 'starting');
  await manager.startProcess(manager.getProcessInfo('plugin').config);
  expect(manager.getProcessInfo('plugin').lastExit).toMatchObject({ pid: leader.pid, reason: 'unhealthy' });
});

test('healthcheck.probe exec: a check that takes longer than timeout is stopped with its tree', async () => {
  const manager = world.manager();
  const events = record(manager);
  const { marker } = await checkedBy(`trap "" TERM; ${LEAVES_A_STRAY} sleep 60`, {
    manager,
    healthcheck: { timeout: 300, retries: 1_000 },
  });
  const processes = Object.values(await world.tree(marker));
  await until(() => events.of('health').length > 0);
  expect(events.of('health')[0]).toMatchObject({
    healthy: false,
    error: expect.stringContaining('not finished within 300 ms (probe exec, after '),
  });
  expect(events.of('health')[0].latency).toBeGreaterThanOrEqual(299);
  await until(() => !processes.some(alive));
  expect(manager.isRunning('plugin')).toBe(true);
});

testOnLinux('healthcheck.probe exec: what a passed command leaves ends with it, and never belongs to the daemon', async () => {
  const manager = world.manager();
  const events = record(manager);
  const { marker, leader } = await checkedBy(`${LEAVES_A_STRAY} while [ ! -e "$1.go" ]; do sleep 0.01; done`, { manager });
  const { stray } = await world.tree(marker);
  const keeper = stat(leader.pid).ppid;
  expect(stat(stray.pid).ppid).not.toBe(keeper);
  fs.writeFileSync(`${marker}.go`, '');
  await until(() => events.of('health').length > 0);
  expect(events.of('health')[0].healthy).toBe(true);
  await until(() => !alive(stray));
  expect(manager.getPid('plugin')).toBe(leader.pid);
});

test('healthcheck.probe exec: a command that floods its output, and one that closes it early, are judged by their exit', async () => {
  const manager = world.manager();
  const events = record(manager);
  await checkedBy('head -c 30000000 /dev/zero | tr "\\0" "\\n"; echo last; exec >&- 2>&-; sleep 0.2; exit 5', {
    manager,
    healthcheck: { retries: 1_000 },
  });
  await until(() => events.of('health').length > 1);
  for (const event of events.of('health')) expect(event.error).toContain('exit code 5: last (probe exec');
});
