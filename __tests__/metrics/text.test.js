'use strict';

const { testWith } = require('../helpers/needs');
const { thrown } = require('../helpers/promises');
const { parse } = require('../helpers/prometheus');
const { until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { crash, runningAgain } = require('../restart/crash');
const { version } = require('../../package.json');

const world = useWorld();
const testWithClient = testWith('prometheus_client');
const HOSTILE = 'a "quoted" \\back\\slash\nand a newline';
const FORMATS = ['openmetrics', 'prometheus'];

/** The family has its name without `_total` and `_info` in OpenMetrics; the classic parser keeps them for some types. */
const family = (families, name) => families[name] ?? families[name.replace(/_(total|info)$/, '')];

function value(families, name, labels, suffix = '') {
  const found = family(families, name).samples.filter(
    (sample) => sample.name === name + suffix && Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
  );
  expect(found).toHaveLength(1);
  return found[0].value;
}

async function running() {
  const manager = world.manager();
  const healthcheck = { interval: 20, timeout: 1_000, retries: 3 };
  await manager.startProcess(world.config('plugin', ['serves.py'], { healthcheck, restart: { delay: 0 } }));
  await runningAgain(manager, await crash(manager));
  const named = world.config('hostile', ['numbers-its-lines.py', 10], { socketPath: world.path('s'), args: undefined });
  await manager.startProcess({ ...named, args: world.config('x', ['numbers-its-lines.py', 10]).args, pluginName: HOSTILE });
  // It prints when it listens already.
  await until(() => manager.getMetrics(HOSTILE).outputBytes === 20);
  await manager.stopProcess(HOSTILE);
  await until(() => manager.getMetrics('plugin').healthChecks.passed > 0 && manager.getMetrics('plugin').resources);
  return manager;
}

testWithClient.each(FORMATS)('metricsText %s: prometheus_client reads the numbers of all plugins', async (format) => {
  const manager = await running();
  const families = parse(manager.metricsText({ format }), format);
  const plugin = { plugin: 'plugin' };
  const hostile = { plugin: HOSTILE };
  expect(value(families, 'ally_daemon_state', { ...plugin, ally_daemon_state: 'running' })).toBe(1);
  expect(value(families, 'ally_daemon_state', { ...plugin, ally_daemon_state: 'stopped' })).toBe(0);
  expect(value(families, 'ally_daemon_state', { ...hostile, ally_daemon_state: 'stopped' })).toBe(1);
  expect(value(families, 'ally_daemon_start_time_seconds', plugin)).toBeLessThanOrEqual(Date.now() / 1e3 + 0.001);
  expect(value(families, 'ally_daemon_starts_total', plugin)).toBe(2);
  expect(value(families, 'ally_daemon_restarts_total', { ...plugin, reason: 'crashed' })).toBe(1);
  expect(value(families, 'ally_daemon_exits_total', { ...plugin, reason: 'crashed' })).toBe(1);
  expect(value(families, 'ally_daemon_exits_total', { ...hostile, reason: 'stopped' })).toBe(1);
  expect(value(families, 'ally_daemon_ready_duration_seconds', plugin, '_count')).toBe(2);
  expect(value(families, 'ally_daemon_ready_duration_seconds', { ...plugin, le: '+Inf' }, '_bucket')).toBe(2);
  expect(value(families, 'ally_daemon_probes_total', { ...plugin, result: 'passed' })).toBeGreaterThan(0);
  expect(value(families, 'ally_daemon_probe_duration_seconds', plugin, '_sum')).toBeGreaterThan(0);
  expect(value(families, 'ally_daemon_cpu_seconds_total', plugin)).toBeGreaterThanOrEqual(0);
  expect(value(families, 'ally_daemon_resident_memory_bytes', plugin)).toBeGreaterThan(1e6);
  expect(value(families, 'ally_daemon_processes', plugin)).toBe(1);
  expect(value(families, 'ally_daemon_threads', plugin)).toBe(1);
  expect(value(families, 'ally_daemon_open_fds', plugin)).toBeGreaterThan(2);
  expect(value(families, 'ally_daemon_output_bytes_total', { ...hostile, stream: 'stdout' })).toBe(16);
  expect(value(families, 'ally_daemon_output_bytes_total', { ...hostile, stream: 'stderr' })).toBe(4);
  expect(value(families, 'ally_daemon_output_dropped_lines_total', plugin)).toBe(0);
  expect(value(families, 'ally_manager_info', { version })).toBe(1);
  // What is at rest has no memory, and no start.
  for (const name of ['ally_daemon_start_time_seconds', 'ally_daemon_resident_memory_bytes', 'ally_daemon_probe_duration_seconds'])
    expect(family(families, name).samples.some(({ labels }) => labels.plugin === HOSTILE)).toBe(false);
  for (const { help } of Object.values(families)) expect(help).toMatch(/^[A-Z].*\.$/);
});

testWithClient('metricsText: OpenMetrics has types and units', () => {
  const families = parse(world.manager().metricsText(), 'openmetrics');
  const kinds = Object.fromEntries(
    Object.entries(families).map(([name, { type, unit }]) => [name, [type, unit].filter(Boolean).join(' ')]),
  );
  expect(kinds).toEqual({
    ally_daemon_state: 'stateset',
    ally_daemon_start_time_seconds: 'gauge seconds',
    ally_daemon_starts: 'counter',
    ally_daemon_restarts: 'counter',
    ally_daemon_exits: 'counter',
    ally_daemon_ready_duration_seconds: 'histogram seconds',
    ally_daemon_probes: 'counter',
    ally_daemon_probe_duration_seconds: 'histogram seconds',
    ally_daemon_cpu_seconds: 'counter seconds',
    ally_daemon_resident_memory_bytes: 'gauge bytes',
    ally_daemon_processes: 'gauge',
    ally_daemon_threads: 'gauge',
    ally_daemon_open_fds: 'gauge',
    ally_daemon_output_bytes: 'counter bytes',
    ally_daemon_output_dropped_lines: 'counter',
    ally_manager: 'info',
  });
});

test('metricsText: the formats end as they must, and have no pid, path, argument or variable', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config('plugin', ['serves.py'], { envVars: { TOKEN: 'a-secret' } }));
  const [open, classic] = FORMATS.map((format) => manager.metricsText({ format }));
  expect(open.endsWith('\n# EOF\n')).toBe(true);
  expect(classic).not.toContain('# EOF');
  expect(manager.metricsText()).toMatch(/# EOF\n$/);
  expect(manager.metricsText({ format: undefined })).toMatch(/# EOF\n$/);
  for (const text of [open, classic]) {
    for (const private_ of ['a-secret', 'serves.py', world.dir]) expect(text).not.toContain(private_);
    expect(text).not.toMatch(new RegExp(`[^0-9.]${manager.getPid('plugin')}\\n`));
  }
});

test('metricsText: counters stay when the daemon is stopped', async () => {
  const manager = world.manager();
  await manager.startProcess(world.config());
  await manager.stopProcess('plugin');
  expect(manager.metricsText()).toContain('\nally_daemon_starts_total{plugin="plugin"} 1\n');
  expect(manager.metricsText()).toContain('\nally_daemon_exits_total{plugin="plugin",reason="stopped"} 1\n');
  await manager.startProcess(world.config());
  expect(manager.metricsText()).toContain('\nally_daemon_starts_total{plugin="plugin"} 2\n');
});

test.each([[{ format: 'json' }], [{ format: 7 }]])('ERR_INVALID_CONFIG: metricsText with the options %j', (options) => {
  const error = thrown(() => world.manager().metricsText(options));
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_INVALID_CONFIG', message: expect.stringContaining('options.format must be one of') });
});
