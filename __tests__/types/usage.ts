/**
 * Type-checked, never run: every way to use the package that the specification shows, as strict
 * TypeScript wants it, and wrong ways that must not compile.
 *
 *     npx tsc -p __tests__/types
 */
import { type EventEmitter, once } from 'node:events';
import { join } from 'node:path';

import {
  BackgroundProcessManager,
  PLUGIN_ENVS_DIR,
  PLUGIN_TIMEOUTS,
  PluginEnvironmentManager,
  ProcessState,
  configFromManifest,
  type BackgroundProcessConfig,
  type ExitReason,
  type GroupStart,
  type HealthcheckConfig,
  type LogLine,
  type Logger,
  type ManagerError,
  type ManagerErrorCode,
  type ManagerEvents,
  type ManagerOptions,
  type PluginDependencies,
  type PluginEnvironmentOptions,
  type Probe,
  type ProcessInfo,
  type ProcessMetrics,
} from '@ally/background-process-manager';

const envManager = new PluginEnvironmentManager();

const manager = new BackgroundProcessManager();
const pluginName = 'search-plugin';
const pluginPath = '/Users/user/.ally/plugins/search-plugin';

// Basic usage

export async function basicUsage(): Promise<void> {
  await manager.startProcess({
    pluginName,
    pluginPath,
    command: envManager.getPythonPath(pluginName),
    args: ['daemon.py'],
    socketPath: join(PLUGIN_ENVS_DIR, pluginName, 'daemon.sock'),
    startupTimeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
    shutdownGracePeriod: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD,
    healthcheck: {
      interval: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL,
      timeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT,
      retries: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES,
    },
  });

  if (manager.isRunning(pluginName)) console.log('Process is running');
  const state: ProcessState | undefined = manager.getState(pluginName);
  if (state === ProcessState.ERROR) console.log('Process is in error state');
  const pid: number | undefined = manager.getPid(pluginName);
  console.log(`Process ID: ${pid}`);

  const info = manager.getProcessInfo(pluginName);
  if (info) {
    const since: number = info.lastStateChange.getTime();
    const counts: number = info.failedHealthChecks + info.restartAttempts + info.totalRestarts;
    console.log(info.state, info.pid?.toFixed(), since, counts, info.config.command, info.uptime);
    console.log(info.lastExit?.reason, info.lastExit?.at.toISOString(), info.nextRestartAt?.toISOString());
  }

  await manager.stopProcess(pluginName);
}

// With environment variables

declare const pythonPath: string;

export async function withEnvironmentVariables(): Promise<void> {
  await manager.startProcess({
    pluginName: 'api-server',
    pluginPath: '/path/to/plugin',
    command: pythonPath,
    args: ['server.py'],
    socketPath: '/path/to/daemon.sock',
    envVars: {
      PORT: '8080',
      API_KEY: process.env.API_KEY,
      LOG_LEVEL: 'debug',
    },
    startupTimeout: 30000,
    shutdownGracePeriod: 5000,
  });
}

// Error handling

declare const config: BackgroundProcessConfig;

export async function errorHandling(): Promise<void> {
  try {
    await manager.startProcess(config);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (error.message.includes('already running')) {
      console.log('Process is already running');
    } else if (error.message.includes('Timeout waiting for socket')) {
      console.error('Process started but not responding');
    } else {
      console.error('Startup failed:', error.message);
    }

    const info = manager.getProcessInfo(pluginName);
    if (info?.state === ProcessState.ERROR) console.error('Last error:', info.lastError);
  }
}

function isManagerError(error: unknown): error is ManagerError {
  return error instanceof Error && typeof (error as Partial<ManagerError>).code === 'string';
}

export async function errorCodes(): Promise<string | undefined> {
  try {
    await manager.startProcess(config);
  } catch (error) {
    if (!isManagerError(error)) throw error;
    switch (error.code) {
      case 'ERR_STARTUP_EXIT':
        return `exit ${error.exitCode ?? error.signal}: ${error.stderr}`;
      case 'ERR_OWNED_ELSEWHERE':
        return `owned by ${error.pid}`;
      case 'ERR_SPAWN':
      case 'ERR_UNSUPPORTED':
        return `${error.syscall} ${error.path}: ${error.errno}`;
      case 'ERR_IO':
        return error.cause instanceof Error ? error.cause.message : error.path;
      case 'ERR_DEPENDENCY':
        return error.errors?.map((each) => each.message).join('; ');
      // @ts-expect-error no such code
      case 'ERR_NO_SUCH_CODE':
        break;
    }
  }
  return undefined;
}

export const allCodes: Record<ManagerErrorCode, true> = {
  ERR_INTERNAL: true,
  ERR_UNSUPPORTED: true,
  ERR_UNHEALTHY: true,
  ERR_INVALID_CONFIG: true,
  ERR_ALREADY_RUNNING: true,
  ERR_SHUTTING_DOWN: true,
  ERR_OWNED_ELSEWHERE: true,
  ERR_SOCKET_IN_USE: true,
  ERR_SPAWN: true,
  ERR_STARTUP_EXIT: true,
  ERR_STARTUP_TIMEOUT: true,
  ERR_STOPPED: true,
  ERR_STOP_FAILED: true,
  ERR_DEPENDENCY: true,
  ERR_UPGRADE: true,
  ERR_NOT_FOUND: true,
  ERR_IO: true,
};

export async function cancelled(): Promise<void> {
  const controller = new AbortController();
  const started = manager.startProcess(config, { signal: controller.signal });
  controller.abort(new Error('no longer wanted'));
  await started;
}

// Application shutdown

const cleanup = async (): Promise<void> => {
  console.log('Shutting down...');
  await manager.stopAllProcesses();
  process.exit(0);
};
process.on('SIGTERM', cleanup);
process.on('SIGINT', cleanup);

export async function disposal(): Promise<void> {
  await using scoped = new BackgroundProcessManager({ onOwnerDeath: 'keep' });
  await scoped.startProcess(config);
  const dispose: () => Promise<void> = scoped[Symbol.asyncDispose].bind(scoped);
  await dispose();
}

// PluginLoader integration

interface PluginManifest {
  name: string;
  version: string;
  runtime?: string;
  daemon?: { command: string; args: string[]; healthcheck?: HealthcheckConfig };
}

export class PluginLoader {
  private backgroundManager = new BackgroundProcessManager();
  private envManager = envManager;

  async loadPlugin(manifest: PluginManifest, pluginPath: string): Promise<void> {
    if (manifest.daemon) {
      const command = manifest.daemon.command === 'python3' ? this.envManager.getPythonPath(manifest.name) : manifest.daemon.command;

      await this.backgroundManager.startProcess({
        pluginName: manifest.name,
        pluginPath,
        command,
        args: manifest.daemon.args,
        socketPath: join(PLUGIN_ENVS_DIR, manifest.name, 'daemon.sock'),
        healthcheck: manifest.daemon.healthcheck,
        startupTimeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP,
        shutdownGracePeriod: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD,
      });
    }
  }

  async shutdown(): Promise<void> {
    await this.backgroundManager.stopAllProcesses();
  }
}

// Plugin manifest

export async function fromManifest(parsed: PluginManifest): Promise<void> {
  const made: BackgroundProcessConfig = configFromManifest(parsed, { pluginPath });
  await manager.startProcess(made);
  await manager.startProcess({
    ...configFromManifest(
      {
        name: 'search-plugin',
        version: '1.0.0',
        runtime: 'python3',
        daemon: {
          command: 'python3',
          args: ['daemon.py'],
          healthcheck: { interval: 30000, timeout: 5000, retries: 3 },
        },
      },
      { pluginPath, envsDir: PLUGIN_ENVS_DIR, pythonPath, envVars: { API_KEY: process.env.API_KEY } },
    ),
    restart: { maxAttempts: 5, delay: 100, backoff: 'linear' },
  });
  const background: BackgroundProcessConfig = configFromManifest(
    {
      name: 'search-plugin',
      background: { command: 'python3', communication: { type: 'socket', path: '/run/search.sock' }, startup_timeout: 1 },
    },
    { pluginPath },
  );
  console.log(background.socketPath);
  // @ts-expect-error where the plugin lives has to be said
  configFromManifest(parsed, {});
  // @ts-expect-error text is to be parsed first
  configFromManifest('{"name":"search-plugin"}', { pluginPath });
}

// Events

manager.on('stateChange', (e) => {
  const to: ProcessState = e.to;
  const from: ProcessState | undefined = e.from;
  console.log(e.pluginName, from, to, e.pid, e.reason, e.at.getTime());
});
manager.once('exit', ({ pid, code, signal, reason }) => {
  const why: ExitReason = reason;
  console.log(pid.toFixed(), code?.toFixed(), signal?.toLowerCase(), why);
});
manager.addListener('restart', ({ attempt, delay }) => console.log(attempt + delay));
manager.prependListener('health', ({ healthy, latency, failures, error }) => {
  const ok: boolean = healthy;
  console.log(ok, latency + failures, error?.trim());
});
const onOutput = ({ stream, line }: ManagerEvents['output'][0]): void => console.log(stream, line.length);
manager.prependOnceListener('output', onOutput).off('output', onOutput).removeListener('output', onOutput);
manager.on('newListener', (event) => console.log(String(event)));
manager.emit('output', { pluginName, stream: 'stdout', line: 'for tests' });
const listeners: number = manager.listenerCount('output');
manager.setMaxListeners(listeners + 1).removeAllListeners('output');

// Any of several events in one listener, and helpers that are generic in the event.
for (const name of ['exit', 'restart'] as const) manager.on(name, (e) => console.log(e.pluginName, e.reason));
export function relay<E extends keyof ManagerEvents>(event: E, to: (...args: ManagerEvents[E]) => void): void {
  manager.on(event, to);
}

// It is an EventEmitter of these events where @types/node has such, and still one for those who take any.
export const typed: EventEmitter<ManagerEvents> = manager;
const emitter: EventEmitter = manager;
export async function nextExit(): Promise<number> {
  const [exit] = (await once(emitter, 'exit')) as ManagerEvents['exit'];
  const [again] = (await once(manager, 'exit', { signal: new AbortController().signal })) as ManagerEvents['exit'];
  return exit.pid + again.pid;
}

// @ts-expect-error no such event
manager.on('crash', () => {});
// @ts-expect-error no such event
manager.off('state', () => {});
// @ts-expect-error no such event
manager.emit('crash');
// @ts-expect-error no such property in this event
manager.on('exit', (e) => console.log(e.to));
// @ts-expect-error the event has a payload
manager.emit('exit');
// @ts-expect-error `line` is text
manager.on('output', ({ line }: { line: number }) => console.log(line));

// The rest of the surface

const options: ManagerOptions = {
  envsDir: PLUGIN_ENVS_DIR,
  logger: console,
  onOwnerDeath: 'stop',
  defaults: { restart: { maxAttempts: 5 }, inheritEnv: false },
  guardianPath: '/opt/ally/ally-guardian',
};
// @ts-expect-error the name of a plugin is no default
export const named: ManagerOptions = { defaults: { pluginName } };
// @ts-expect-error no such option
export const misspelt: ManagerOptions = { envDir: PLUGIN_ENVS_DIR };
const logger: Logger = {
  debug() {},
  info() {},
  warn(message, fields) {
    console.log(message, fields);
  },
  error() {},
};
const probes: Probe[] = [
  { type: 'listen' },
  { type: 'tcp', port: 8080, host: 'localhost' },
  { type: 'output', pattern: '^ready', stream: 'stdout' },
  { type: 'socket' },
  { type: 'accept' },
  { type: 'http', path: '/healthz', port: 8080, status: [200, 299] },
  { type: 'http' },
  { type: 'http', host: '::1', port: 8080, status: 204 },
  { type: 'tcp', port: 8080 },
  { type: 'output', pattern: /ready/.source },
  { type: 'exec', command: 'check', args: ['--quick'] },
  { type: 'exec', command: 'check' },
  { type: 'notify' },
];
// @ts-expect-error `exec` needs a command
export const withoutCommand: Probe = { type: 'exec', args: ['--quick'] };

export async function everythingElse(): Promise<void> {
  const other = new BackgroundProcessManager({ ...options, logger }).unref().ref();
  const starts: GroupStart[] = await other.startGroup([
    config,
    {
      ...config,
      pluginName: 'second',
      dependsOn: [pluginName],
      group: 'searching',
      socket: 'manager',
      killMode: 'group',
      stopSignal: 'SIGINT',
      stopSignalTo: 'tree',
      readiness: probes[1],
      healthcheck: { interval: 1000, timeout: 500, retries: 3, probe: probes[2] },
      restart: {
        maxDelay: 10000,
        factor: 1.5,
        jitter: 0,
        window: { limit: 5, period: 60000 },
        on: 'failure',
        resetAfter: 60000,
        preventExitCodes: [78],
      },
      logs: { file: '/var/log/second.log', maxSize: 1 << 20, maxFiles: 3, compress: true },
      limits: { maxMemory: 1 << 30, sustain: 5000, openFiles: 1024, coreDumps: false, niceness: 5, oomScoreAdj: 100 },
      start: 'onConnect',
      idleTimeout: 600000,
      shared: { linger: 30000 },
      inheritEnv: ['SSH_AUTH_SOCK'],
      umask: 0o077,
    },
  ]);
  for (const { pluginName: started, queued, spawned, ready } of starts) console.log(`${started}: ${queued}, ${spawned}, ${ready} ms`);
  await other.restartProcess(pluginName);
  await other.upgradeProcess(pluginName, { args: ['daemon.py', '--new'] });
  await other.stopGroup('searching');
  const forgotten: boolean = other.forgetProcess('second');
  const all: Readonly<ProcessInfo>[] = other.listProcesses();
  const lines: string[] = other.getOutput(pluginName, 20);
  const many: ProcessMetrics[] = other.getMetrics();
  const one: ProcessMetrics | undefined = other.getMetrics(pluginName);
  const text: string = other.metricsText() + other.metricsText({ format: 'prometheus' });
  await other.whenRunning('second', { signal: AbortSignal.timeout(1000) });
  await other.stopProcess('second', { everywhere: true });
  const line: LogLine[] = [];
  for await (const each of other.logs(pluginName, { lines: 10, follow: true, signal: new AbortController().signal })) {
    line.push(each);
    if (each.dropped === undefined) console.log(each.stream, each.line.trim(), each.at.getTime(), each.pid.toFixed());
    else console.log(each.dropped.toFixed());
  }
  console.log(forgotten, all.length, lines.length, many.length, one?.resources?.memory, one?.healthChecks.p99, text);
}

export async function environments(): Promise<void> {
  const environments = new PluginEnvironmentManager({
    envsDir: PLUGIN_ENVS_DIR,
    logger,
    onProgress: (line, name) => console.log(name, line.length),
    guardianPath: '/opt/ally/ally-guardian',
  } satisfies PluginEnvironmentOptions);
  // @ts-expect-error no such option
  new PluginEnvironmentManager({ envDir: PLUGIN_ENVS_DIR });
  const dependencies: PluginDependencies = { file: 'requirements.txt', install_command: null };
  await environments.ensureDependencies(pluginName, pluginPath, 'node', dependencies);
  // @ts-expect-error the file of the dependencies is required
  await environments.ensureDependencies(pluginName, pluginPath, 'node', {});
  const made: boolean = await environments.ensureDependencies(
    pluginName,
    pluginPath,
    'python3',
    { file: 'requirements.txt', install_command: 'make install' },
    { signal: new AbortController().signal },
  );
  const ready: boolean = await environments.isReady(pluginName);
  const paths: string[] = [environments.getNodeModulesPath(pluginName), environments.getEnvPath(pluginName)];
  await environments.removeEnvironment(pluginName);
  console.log(made, ready, paths);
}

export const reasons: Record<ExitReason, true> = {
  stopped: true,
  crashed: true,
  exited: true,
  unhealthy: true,
  memory: true,
  upgraded: true,
  idle: true,
  startup: true,
};
const states: Record<`${ProcessState}`, true> = { starting: true, running: true, stopping: true, stopped: true, error: true };
const grace: 5000 = PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD;
console.log(states, grace);

// Wrong ways

// @ts-expect-error fields are missing
manager.startProcess({ pluginName, pluginPath, command: 'node', args: [] });
// @ts-expect-error args are strings
manager.startProcess({ ...config, args: [1] });
// @ts-expect-error durations are numbers
manager.startProcess({ ...config, startupTimeout: '30s' });
// @ts-expect-error a health check is complete
manager.startProcess({ ...config, healthcheck: { interval: 1000 } });
// @ts-expect-error an entry may be a count of dropped lines
export const textOf = (entry: LogLine): string => entry.line;
// @ts-expect-error all lines are the default
manager.logs(pluginName, { lines: 'all' });
// @ts-expect-error exit codes are numbers
manager.startProcess({ ...config, restart: { preventExitCodes: ['EX_CONFIG'] } });
// @ts-expect-error one exit code is a list of one
manager.startProcess({ ...config, restart: { preventExitCodes: 78 } });
// @ts-expect-error true is no health check
manager.startProcess({ ...config, healthcheck: true });
// @ts-expect-error a limit is a number
manager.startProcess({ ...config, limits: { maxMemory: '512M' } });
// @ts-expect-error there is no such limit
manager.startProcess({ ...config, limits: { cpu: 1 } });
// @ts-expect-error a umask is a number
manager.startProcess({ ...config, umask: '022' });
// @ts-expect-error the resources are absent unless it runs
manager.getMetrics(pluginName)?.resources.memory;
// @ts-expect-error the probe has no fields
manager.startProcess({ ...config, readiness: { type: 'listen', port: 8080 } });
// @ts-expect-error no such probe
manager.startProcess({ ...config, readiness: { type: 'ping' } });
// @ts-expect-error a port is needed
manager.startProcess({ ...config, readiness: { type: 'tcp' } });
// @ts-expect-error a pattern is a string
manager.startProcess({ ...config, readiness: { type: 'output', pattern: /ready/ } });
// @ts-expect-error a range has two ends
manager.startProcess({ ...config, readiness: { type: 'http', status: [200] } });
// @ts-expect-error a stream has a name
manager.startProcess({ ...config, readiness: { type: 'output', pattern: 'x', stream: 'stdin' } });
// @ts-expect-error no such format
manager.metricsText({ format: 'json' });
// @ts-expect-error variables are strings
manager.startProcess({ ...config, envVars: { PORT: 8080 } });
// @ts-expect-error no such choice
new BackgroundProcessManager({ onOwnerDeath: 'forget' });
// @ts-expect-error a logger has four methods
new BackgroundProcessManager({ logger: { info() {} } });
// @ts-expect-error a config, not a name
manager.startProcess(pluginName);
// @ts-expect-error no such default
console.log(PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP_TIMEOUT);
// @ts-expect-error defaults are fixed
PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP = 30000;

export function readonlyInfo(info: Readonly<ProcessInfo>): void {
  // @ts-expect-error what was handed out is not for changing
  info.state = ProcessState.STOPPED;
  // @ts-expect-error what was handed out is not for changing
  info.restartAttempts = 0;
  // @ts-expect-error a state is one of the enum
  const state: ProcessState = 'paused';
  console.log(state);
}
