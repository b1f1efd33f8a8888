/**
 * Types of @ally/background-process-manager.
 *
 * Unless a comment says otherwise, durations are in milliseconds and sizes in bytes. A key whose
 * value is `undefined` counts as absent. What is marked "Not built yet" is declared so that code can
 * be written against it; this version refuses it with ERR_INVALID_CONFIG ("… is not supported yet").
 */

// Named, because TypeScript 6 and later load no @types package that nobody names.
/// <reference types="node" />

import { EventEmitter } from 'node:events';

declare global {
  // Missing from the `lib` of most projects. The whole of esnext.disposable would be too much to
  // pull into them: it also changes what iterators are, and older @types/node then fail to compile.
  interface SymbolConstructor {
    readonly asyncDispose: unique symbol;
  }
}

/** What a daemon is doing, as seen by its manager. */
export declare enum ProcessState {
  /** Started or about to be restarted; not ready yet. */
  STARTING = 'starting',
  /** Ready: its readiness probe has passed. */
  RUNNING = 'running',
  /** Asked to stop; parts of it may still be there. */
  STOPPING = 'stopping',
  /** Gone, and meant to be. */
  STOPPED = 'stopped',
  /** Given up on; `lastError` says why. It may be started again. */
  ERROR = 'error',
}

/** Default values for the required and the health check fields of a configuration. Frozen. */
export declare const PLUGIN_TIMEOUTS: Readonly<{
  /** For `startupTimeout`. */
  BACKGROUND_PROCESS_STARTUP: 30000;
  /** For `shutdownGracePeriod`. */
  BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD: 5000;
  /** For `healthcheck.interval`. */
  BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL: 30000;
  /** For `healthcheck.timeout`. */
  BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT: 5000;
  /** For `healthcheck.retries`: a count. */
  BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES: 3;
  /** What `restart.maxAttempts` is without a value: a count. */
  BACKGROUND_PROCESS_MAX_RESTART_ATTEMPTS: 3;
  /** What `restart.delay` is without a value. */
  BACKGROUND_PROCESS_RESTART_DELAY: 5000;
}>;

/** `~/.ally/plugin-envs`, where HOME is the value at the time when the package was loaded. */
export declare const PLUGIN_ENVS_DIR: string;

export interface ManagerOptions {
  /**
   * The folder with one folder per plugin, in which pid files are kept. An absolute path.
   * @default `$HOME/.ally/plugin-envs`, where HOME is the value at construction
   */
  envsDir?: string | undefined;
  /**
   * Gets the manager's log entries and, at debug level, the daemons' output.
   * @default none
   * @example new BackgroundProcessManager({ logger: console })
   */
  logger?: Logger | undefined;
  /**
   * Whether daemons that still run outlive the process that started them, however that process
   * ends: 'stop' takes them down within their grace period plus 2 s, after a SIGKILL of their owner
   * too; 'keep' lets them be, and the next start of the same plugin replaces them.
   * @default 'stop'
   */
  onOwnerDeath?: 'stop' | 'keep' | undefined;
  /**
   * Not built yet. What a configuration gets where it says nothing, so that a program that builds
   * configurations itself gains the newer options. A key that is missing or `undefined` takes the
   * default; `null` does not. `logs.file` may hold `{name}`, replaced by pluginName.
   * @default {}
   * @example { restart: { maxAttempts: 5 } }
   */
  defaults?: Partial<Omit<BackgroundProcessConfig, 'pluginName' | 'pluginPath' | 'command' | 'args' | 'socketPath'>> | undefined;
  /**
   * Not built yet. The absolute path of the guardian's program, for single-file programs that can't
   * ship it beside the addon.
   * @default beside the addon
   */
  guardianPath?: string | undefined;
}

/** The part of console, pino, winston and the like that is used. */
export interface Logger {
  debug(message: string, fields?: object): void;
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
  error(message: string, fields?: object): void;
}

export interface BackgroundProcessConfig {
  /**
   * Identifies the daemon. 1 to 255 bytes, no '/' and no NUL, neither '.' nor '..'.
   * @example 'search-plugin'
   */
  pluginName: string;
  /** Absolute path of the plugin's folder: the daemon's working directory. */
  pluginPath: string;
  /** The program: a path, or a bare name that is looked up in the PATH of the daemon's environment. No shell. */
  command: string;
  /** @example ['daemon.py', '--verbose'] */
  args: string[];
  /**
   * Absolute path of the daemon's Unix socket, which it finds in SOCKET_PATH. At most 107 bytes on
   * Linux and 103 on macOS.
   */
  socketPath: string;
  /**
   * How long the daemon may take to become ready, in milliseconds; at least 1.
   * @example PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP
   */
  startupTimeout: number;
  /**
   * How long the daemon may take to end after the stop signal, before SIGKILL, in milliseconds; 0 kills at once.
   * @example PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD
   */
  shutdownGracePeriod: number;
  /**
   * Set on top of the caller's environment and of SOCKET_PATH, ALLY_PLUGIN_NAME and
   * PYTHONUNBUFFERED. An entry with the value `undefined` removes that variable.
   * @default {}
   * @example { PORT: '8080', NODE_OPTIONS: undefined }
   */
  envVars?: Record<string, string | undefined> | undefined;
  /**
   * How often the running daemon is probed, and when it is replaced. Without it only its exit is noticed.
   * @default none
   * @example { interval: 30000, timeout: 5000, retries: 3 }
   */
  healthcheck?: HealthcheckConfig | undefined;
  /**
   * What follows a crash or failed health checks.
   * @default every default of RestartPolicy
   * @example { maxAttempts: 5, delay: 1000 }
   */
  restart?: RestartPolicy | undefined;
  /**
   * Not built yet. Where the daemon's output is written to, beside the lines in memory.
   * @default none
   * @example { file: '/var/log/search-plugin.log', maxFiles: 3 }
   */
  logs?: LogPolicy | undefined;
  /**
   * Not built yet. What the daemon may use.
   * @default the limits of the process that starts it
   * @example { maxMemory: 512 * 1024 * 1024 }
   */
  limits?: ResourceLimits | undefined;
  /**
   * The probe that ends a start. (`listen` becomes the default when it is built, and `accept`
   * together with `socket: 'manager'`.)
   * @default { type: 'socket' }
   */
  readiness?: Probe | undefined;
  /**
   * Who listens at socketPath: 'daemon', or (not built yet) 'manager', which keeps the socket open
   * across restarts and hands it to the daemon the way systemd does (LISTEN_FDS).
   * @default 'daemon'
   */
  socket?: 'daemon' | 'manager' | undefined;
  /**
   * What a stop reaches: 'tree', all that descends from the daemon, detached or not; or 'group', its
   * process group, for plugins that start things which are to stay.
   * @default 'tree'
   */
  killMode?: 'tree' | 'group' | undefined;
  /**
   * The name of the signal that asks the daemon to end.
   * @default 'SIGTERM'
   * @example 'SIGINT'
   */
  stopSignal?: string | undefined;
  /**
   * Not built yet. Who gets the stop signal first: 'leader', the process that was started, and the
   * rest when it has exited; or 'tree', all at once.
   * @default 'leader'
   */
  stopSignalTo?: 'leader' | 'tree' | undefined;
  /**
   * Not built yet. A label for stopGroup.
   * @default none
   * @example 'search'
   */
  group?: string | undefined;
  /**
   * Not built yet. pluginNames of daemons which have to be running before this one is started.
   * @default []
   * @example ['database']
   */
  dependsOn?: string[] | undefined;
  /**
   * When the daemon is started: 'eager', by startProcess; or (not built yet) 'onConnect', at the
   * first connection, which needs `socket: 'manager'`.
   * @default 'eager'
   */
  start?: 'eager' | 'onConnect' | undefined;
  /**
   * Not built yet. With `start: 'onConnect'`: after this many milliseconds without a connection the
   * daemon is stopped, and the next connection starts it again.
   * @default never
   * @example 600000
   */
  idleTimeout?: number | undefined;
  /**
   * One daemon for all processes of this user that start the plugin (not built yet), or one for each
   * (false). `linger`: how many milliseconds it outlives the last of them.
   * @default false
   * @example { linger: 30000 }
   */
  shared?: boolean | { linger?: number | undefined } | undefined;
  /**
   * What of the caller's environment the daemon gets: all of it (true); or, not built yet, a short
   * list such as PATH, HOME and LANG (false); or that list and the names given.
   * @default true (shared daemons: false)
   * @example ['SSH_AUTH_SOCK']
   */
  inheritEnv?: boolean | string[] | undefined;
  /**
   * Not built yet. The daemon's file mode creation mask, 0 to 0o777.
   * @default the one of the process that starts it
   * @example 0o077
   */
  umask?: number | undefined;
}

export interface HealthcheckConfig {
  /** Milliseconds from the beginning of one check to that of the next, and from ready to the first; at least 1. Checks never overlap. */
  interval: number;
  /** Milliseconds that one check may take; at least 1. */
  timeout: number;
  /** The number of failures in a row at which the daemon is replaced; at least 1. */
  retries: number;
  /** @default { type: 'socket' } */
  probe?: Probe | undefined;
}

/** How to find out whether a daemon is ready, or well. */
export type Probe =
  /** Not built yet. A process of the daemon listens at socketPath, by the kernel's word; nothing connects. */
  | { type: 'listen' }
  /** It can be connected to at socketPath. A hung daemon passes while its queue has room. */
  | { type: 'socket' }
  /** It also takes the connection from the queue, as the kernel tells; a hung one does not. */
  | { type: 'accept' }
  /**
   * Not built yet. It answers GET `path` (default '/') with `status` (one, or from and to; default
   * 200 to 299): over socketPath, or over TCP where `port` is given (`host` default 'localhost').
   */
  | {
      type: 'http';
      path?: string | undefined;
      host?: string | undefined;
      port?: number | undefined;
      status?: number | [number, number] | undefined;
    }
  /** Not built yet. This command, run beside it, exits with code 0. */
  | { type: 'exec'; command: string; args?: string[] | undefined }
  /** Not built yet. It reports itself, as for sd_notify(3): READY=1 once, then WATCHDOG=1 at least once per interval. */
  | { type: 'notify' }
  /** Not built yet. A connection to this port succeeds (`host` default 'localhost'). */
  | { type: 'tcp'; port: number; host?: string | undefined }
  /** Not built yet; readiness only. It writes a line that matches `pattern`, a regular expression's source, to `stream` (default: either). */
  | { type: 'output'; pattern: string; stream?: 'stdout' | 'stderr' | undefined };

export interface RestartPolicy {
  /**
   * Attempts in a row after which the daemon is given up (ERROR); 0 means no restarts.
   * @default 3
   */
  maxAttempts?: number | undefined;
  /**
   * Milliseconds before the first attempt, counted from the crash.
   * @default 5000
   */
  delay?: number | undefined;
  /**
   * How the delay of attempt n grows: 'exponential', delay × factor^(n-1); 'linear', delay × n;
   * 'constant', delay.
   * @default 'exponential'
   */
  backoff?: 'exponential' | 'linear' | 'constant' | undefined;
  /**
   * For exponential backoff.
   * @default 2
   */
  factor?: number | undefined;
  /**
   * No delay is longer than this many milliseconds.
   * @default 60000
   */
  maxDelay?: number | undefined;
  /**
   * By which share, 0 to 1, each delay is randomly longer or shorter.
   * @default 0.1
   */
  jitter?: number | undefined;
  /**
   * More than `limit` restarts within any `period` milliseconds, successful ones included, end in ERROR.
   * @default { limit: 10, period: 300000 }
   */
  window?: { limit: number; period: number } | undefined;
  /**
   * Whether an exit with code 0 that nobody asked for is a reason: 'always', or only a 'failure'.
   * @default 'always'
   */
  on?: 'always' | 'failure' | undefined;
  /**
   * Not built yet. RUNNING for this many milliseconds sets `restartAttempts` to 0.
   * @default 0: at once
   */
  resetAfter?: number | undefined;
  /**
   * Not built yet. An exit with one of these codes leads to ERROR at once.
   * @default []
   * @example [2, 78]
   */
  preventExitCodes?: number[] | undefined;
}

/** Not built yet. */
export interface LogPolicy {
  /**
   * Absolute path of a file to which the daemon's output is appended. Without it, the latest lines are kept in memory only.
   * @default none
   */
  file?: string | undefined;
  /**
   * The size in bytes at which the file is rotated.
   * @default 10485760
   */
  maxSize?: number | undefined;
  /**
   * How many files are kept, with the one in use.
   * @default 5
   */
  maxFiles?: number | undefined;
  /**
   * Whether rotated files are gzipped.
   * @default false
   */
  compress?: boolean | undefined;
}

/** Not built yet. */
export interface ResourceLimits {
  /**
   * Bytes of resident memory of the daemon with its descendants. More than that for `sustain` restarts it.
   * @default no limit
   */
  maxMemory?: number | undefined;
  /**
   * Milliseconds.
   * @default 3000
   */
  sustain?: number | undefined;
  /**
   * How many files the daemon may have open (RLIMIT_NOFILE).
   * @default the one of the process that starts it
   */
  openFiles?: number | undefined;
  /**
   * Whether a crash may write a core dump (RLIMIT_CORE).
   * @default as in the process that starts it
   */
  coreDumps?: boolean | undefined;
  /**
   * -20 to 19.
   * @default the one of the process that starts it
   */
  niceness?: number | undefined;
  /**
   * -1000 to 1000; Linux only.
   * @default the one of the process that starts it
   */
  oomScoreAdj?: number | undefined;
}

/** A snapshot: it does not change once it has been handed out. */
export interface ProcessInfo {
  state: ProcessState;
  /** Of the process that was started, as long as there is one. */
  pid?: number;
  config: BackgroundProcessConfig;
  /** In a row; the next check that passes sets it to 0. */
  failedHealthChecks: number;
  /** In a row, counting the one that is pending; 0 again as soon as one becomes ready. */
  restartAttempts: number;
  /** Cleared by a start that succeeds. */
  lastError?: string;
  lastStateChange: Date;
  /** Milliseconds in RUNNING. Absent in any other state. */
  uptime?: number;
  /** Every restart since this manager came to know the plugin. */
  totalRestarts: number;
  /**
   * How the latest process ended: by exit code or by signal name. Not built yet: `memoryPeak` in
   * bytes and `cpuTime` in milliseconds, as the system accounts for the process that was started.
   */
  lastExit?: { pid: number; code?: number; signal?: string; at: Date; reason: ExitReason; memoryPeak?: number; cpuTime?: number };
  /** When the pending restart is due; absent if none is pending. */
  nextRestartAt?: Date;
  /** Not built yet. What the daemon last said by STATUS= (probe 'notify'). */
  status?: string;
  /** Not built yet. The socket listens, and the first connection starts the daemon. */
  armed?: boolean;
  /** Not built yet. Of a shared daemon: how many sessions have it, this one included. */
  sessions?: number;
}

/**
 * Why a process ended: it was asked to ('stopped'), failed ('crashed'), ended by itself with code 0
 * ('exited'), failed its health checks ('unhealthy') or never became ready ('startup'). Not built
 * yet: it used too much memory ('memory'), made room for a new one ('upgraded') or had no
 * connection for `idleTimeout` ('idle').
 */
export type ExitReason = 'stopped' | 'crashed' | 'exited' | 'unhealthy' | 'memory' | 'upgraded' | 'idle' | 'startup';

/** Not built yet. A line of output, or, where the reader was too slow, how many lines were dropped. */
export type LogLine = { stream: 'stdout' | 'stderr'; line: string; at: Date; pid: number; dropped?: undefined } | { dropped: number };

/** Not built yet. Counters are totals over the life of the manager. */
export interface ProcessMetrics {
  pluginName: string;
  state: ProcessState;
  /** Milliseconds; 0 unless running. */
  uptime: number;
  starts: number;
  restarts: number;
  crashes: number;
  /** Counts, and latencies in milliseconds. */
  healthChecks: { passed: number; failed: number; lastLatency?: number; p50?: number; p99?: number };
  /**
   * Of the daemon together with its descendants, while it runs. `cpuPercent`: 100 is one core;
   * `cpuTime` in milliseconds; `memory`: resident bytes; the others are counts.
   */
  resources?: {
    cpuPercent: number;
    cpuTime: number;
    memory: number;
    processes: number;
    threads: number;
    openFiles: number;
  };
  /** What it has written to stdout and stderr, in bytes. */
  outputBytes: number;
}

/** The arguments of each event's listeners. */
export interface ManagerEvents {
  /** `from` is absent when the plugin is new. */
  stateChange: [{ pluginName: string; from?: ProcessState; to: ProcessState; pid?: number; reason?: string; at: Date }];
  /** A daemon's process has ended, asked or not. */
  exit: [{ pluginName: string; pid: number; code?: number; signal?: string; reason: ExitReason }];
  /** A restart is pending: attempt number `attempt`, in `delay` milliseconds. */
  restart: [{ pluginName: string; attempt: number; delay: number; reason: ExitReason }];
  /** A health check is done. `latency` in milliseconds; `failures`: in a row, so 0 when healthy. */
  health: [{ pluginName: string; healthy: boolean; latency: number; failures: number; error?: string }];
  /** A line of output, without its line end. Dropped, not queued, where listeners can't keep up. */
  output: [{ pluginName: string; stream: 'stdout' | 'stderr'; line: string }];
}

/** The `code` of a ManagerError. */
export type ManagerErrorCode =
  /** A field is missing, of the wrong type, out of range or not supported yet; the message names it. */
  | 'ERR_INVALID_CONFIG'
  /** This plugin is running, starting or stopping already. */
  | 'ERR_ALREADY_RUNNING'
  /** stopAllProcesses has been called; this manager starts nothing any more. */
  | 'ERR_SHUTTING_DOWN'
  /** Another manager, in this process or in the one with `pid`, runs this plugin. */
  | 'ERR_OWNED_ELSEWHERE'
  /** Somebody else listens at socketPath, or a file that is no socket lies there. */
  | 'ERR_SOCKET_IN_USE'
  /** The program, its folder or its interpreter can't be run, or the system refused to make the process. */
  | 'ERR_SPAWN'
  /** The daemon ended before it was ready: see `exitCode`, `signal` and `stderr`. */
  | 'ERR_STARTUP_EXIT'
  /** The daemon was not ready within `startupTimeout`. */
  | 'ERR_STARTUP_TIMEOUT'
  /** The daemon was stopped while it was starting. */
  | 'ERR_STOPPED'
  /** Processes of the daemon are still there 2 s after SIGKILL; the message names their pids. */
  | 'ERR_STOP_FAILED'
  /** Not built yet. `dependsOn` names an unknown plugin or runs in a circle, or one of a group failed. */
  | 'ERR_DEPENDENCY'
  /** Not built yet. The new daemon did not become ready; the old one still runs. */
  | 'ERR_UPGRADE'
  /** No plugin of this name is known to this manager. */
  | 'ERR_NOT_FOUND'
  /** A file or folder could not be read or written: see `path`. */
  | 'ERR_IO'
  /** A fault of the manager's own: its guardian was killed again and again, a keeper was lost, or its task broke down. */
  | 'ERR_INTERNAL'
  /** There is no addon for this platform, or no guardian that could be run: see `path`. */
  | 'ERR_UNSUPPORTED'
  /** The daemon was given up after restarts because its health checks failed. */
  | 'ERR_UNHEALTHY';

/**
 * What methods reject with, and what the constructor and configFromManifest throw: an Error of the
 * caller's realm. The exception is a start that is cancelled through `signal`: it rejects with the
 * signal's reason.
 */
export interface ManagerError extends Error {
  code: ManagerErrorCode;
  pluginName?: string;
  /** The process in question, where it is another one's: the owner's, or the one at the socket. */
  pid?: number;
  exitCode?: number;
  /** A name such as 'SIGKILL'. */
  signal?: string;
  /** Of a failed system call: a name such as 'ENOENT'. */
  errno?: string;
  /** The system call that failed, such as 'open', where it is known; 'spawn' for all that makes a process. */
  syscall?: string;
  /** The file, folder or program in question. */
  path?: string;
  /** The last lines that the daemon wrote, if it wrote any. */
  stderr?: string;
  /** Of ERR_IO: what went wrong with the file of a daemon that is gone. */
  cause?: unknown;
  /** Not built yet. Of an AggregateError (startGroup): one error per plugin that failed. */
  errors?: Error[];
}

// Keeps the helper types below to this file: without it, a declaration file exports everything.
export {};

type ManagerEvent = keyof ManagerEvents;
type ManagerListener<E extends ManagerEvent> = (...args: ManagerEvents[E]) => void;
/** What every EventEmitter emits about its own listeners. */
type MetaEvent = 'newListener' | 'removeListener';
type MetaListener = (event: string | symbol, listener: (...args: any[]) => void) => void;

/**
 * Starts, watches, restarts and stops daemons.
 *
 * Methods that return a promise never throw; they reject with a ManagerError. The getters answer at
 * once, from the latest snapshot. Running daemons keep the event loop alive (see unref).
 *
 * Events are declared method by method, since EventEmitter takes type parameters in newer versions
 * of @types/node only.
 */
export declare class BackgroundProcessManager extends EventEmitter {
  /** Throws ERR_INVALID_CONFIG. No process and no thread comes into being before the first start. */
  constructor(options?: ManagerOptions);

  /**
   * Starts a daemon and resolves once it is ready. What an earlier owner left of this plugin is
   * stopped first. When it rejects, the state is ERROR (unless the configuration was refused or the
   * name was taken) and nothing of the attempt is left running. Aborting `signal` stops the daemon
   * while it is starting.
   */
  startProcess(config: BackgroundProcessConfig, options?: { signal?: AbortSignal | undefined }): Promise<void>;
  /**
   * Resolves once every process of the daemon is gone and its files are removed; also for a plugin
   * that is unknown or stopped. Cancels a start or a restart which is under way. Rejects with
   * ERR_STOP_FAILED if something can't be killed. `everywhere` (not built yet): a shared daemon is
   * stopped for all sessions, not only let go of by this one.
   */
  stopProcess(pluginName: string, options?: { everywhere?: boolean | undefined }): Promise<void>;
  /** Stops everything in parallel and starts nothing any more. Never rejects. */
  stopAllProcesses(): Promise<void>;
  /** Whether its state is RUNNING. */
  isRunning(pluginName: string): boolean;
  /** `undefined` for a plugin that is not known. */
  getState(pluginName: string): ProcessState | undefined;
  /** The pid of the started process, in every state in which there is one. */
  getPid(pluginName: string): number | undefined;
  /** `undefined` for a plugin that is not known. */
  getProcessInfo(pluginName: string): Readonly<ProcessInfo> | undefined;

  /** Stops a daemon and starts it with the configuration it had. Not counted as a restart attempt. */
  restartProcess(pluginName: string): Promise<void>;
  /**
   * Not built yet. Replaces a daemon by one with a changed configuration, and stops the old one only when the new
   * one is ready. If that fails, the old one stays: ERR_UPGRADE.
   */
  upgradeProcess(pluginName: string, changes?: Partial<BackgroundProcessConfig>): Promise<void>;
  /**
   * Not built yet. Starts daemons in the order of their `dependsOn`, in parallel where it allows. If one fails,
   * those started by this call are stopped again, and it rejects with an AggregateError whose code
   * is ERR_DEPENDENCY.
   */
  startGroup(configs: BackgroundProcessConfig[]): Promise<void>;
  /** Not built yet. Stops the daemons with this `group`, each before those it depends on. */
  stopGroup(group: string): Promise<void>;
  /**
   * Not built yet. Resolves when the daemon is RUNNING; rejects when it comes to rest instead (ERROR,
   * STOPPED, unknown). Aborting `signal` ends the wait and stops nothing.
   */
  whenRunning(pluginName: string, options?: { signal?: AbortSignal | undefined }): Promise<void>;
  /** One entry per known plugin. */
  listProcesses(): Readonly<ProcessInfo>[];
  /** Makes a plugin unknown again, its output included. False if it was unknown or still has a process. */
  forgetProcess(pluginName: string): boolean;
  /** Undoes unref. */
  ref(): this;
  /** Lets this process end while daemons run. */
  unref(): this;
  /** For `await using`: the same as stopAllProcesses. */
  [Symbol.asyncDispose](): Promise<void>;

  /**
   * The latest output lines, oldest first: at most `lines` of them, and no more than 1,000 lines or
   * 256 KiB are kept. Empty for a plugin that is not known.
   */
  getOutput(pluginName: string, lines?: number): string[];
  /**
   * Not built yet. The latest lines that are kept (at most `lines`), then, with `follow`, each new
   * one, until `signal` aborts, the plugin is forgotten or the loop is left.
   */
  logs(
    pluginName: string,
    options?: { lines?: number | undefined; follow?: boolean | undefined; signal?: AbortSignal | undefined },
  ): AsyncIterableIterator<LogLine>;
  /** Not built yet. One entry per known plugin. */
  getMetrics(): ProcessMetrics[];
  /** Not built yet. `undefined` for a plugin that is not known. */
  getMetrics(pluginName: string): ProcessMetrics | undefined;
  /** Not built yet. All metrics as OpenMetrics 1.0 text, or in Prometheus's own format 0.0.4. */
  metricsText(options?: { format?: 'openmetrics' | 'prometheus' | undefined }): string;

  on<E extends ManagerEvent>(event: E, listener: ManagerListener<E>): this;
  on(event: MetaEvent, listener: MetaListener): this;
  once<E extends ManagerEvent>(event: E, listener: ManagerListener<E>): this;
  once(event: MetaEvent, listener: MetaListener): this;
  off<E extends ManagerEvent>(event: E, listener: ManagerListener<E>): this;
  off(event: MetaEvent, listener: MetaListener): this;
  addListener<E extends ManagerEvent>(event: E, listener: ManagerListener<E>): this;
  addListener(event: MetaEvent, listener: MetaListener): this;
  removeListener<E extends ManagerEvent>(event: E, listener: ManagerListener<E>): this;
  removeListener(event: MetaEvent, listener: MetaListener): this;
  prependListener<E extends ManagerEvent>(event: E, listener: ManagerListener<E>): this;
  prependListener(event: MetaEvent, listener: MetaListener): this;
  prependOnceListener<E extends ManagerEvent>(event: E, listener: ManagerListener<E>): this;
  prependOnceListener(event: MetaEvent, listener: MetaListener): this;
  emit<E extends ManagerEvent>(event: E, ...args: ManagerEvents[E]): boolean;
  // As loose as where EventEmitter is generic, so that a manager is an EventEmitter<ManagerEvents> there.
  /** `listener` is taken into account from Node 18.16 and 19.8 on. */
  listenerCount<K>(event: K, listener?: (...args: any[]) => void): number;
  listeners<K>(event: K): any[];
  rawListeners<K>(event: K): any[];
  eventNames(): any[];
}

/**
 * Makes a configuration for startProcess of a plugin.json with a `daemon` section.
 *
 * Where the section has no value, `args` is [], `startupTimeout` 30000 and `shutdownGracePeriod`
 * 5000; `socketPath` is `{envsDir}/{name}/daemon.sock`; a health check that is declared in part is
 * completed (30000, 5000, 3), one that is not declared stays away. The command 'python3' becomes
 * `pythonPath`. All other keys are handed on as they are, for startProcess to check.
 *
 * `at.pluginPath`, `at.envsDir` (default as in ManagerOptions) and `at.pythonPath` (default
 * `{envsDir}/{name}/bin/python3`) are absolute paths; `at.envVars` wins over the manifest's.
 * Throws ERR_INVALID_CONFIG with the field (`manifest.daemon.command`, `at.pluginPath`) in the message.
 */
export declare function configFromManifest(
  manifest: object,
  at: {
    pluginPath: string;
    envsDir?: string | undefined;
    pythonPath?: string | undefined;
    envVars?: Record<string, string | undefined> | undefined;
  },
): BackgroundProcessConfig;

/**
 * Not built yet: the constructor throws. Plugins' environments as Ally lays them out: `{envsDir}/{name}`
 * with `bin/python3` or `node_modules`, and the marker `.installed`.
 */
export declare class PluginEnvironmentManager {
  constructor(options?: {
    envsDir?: string | undefined;
    logger?: Logger | undefined;
    onProgress?: ((line: string, pluginName: string) => void) | undefined;
  });
  /** Makes the environment where it is not ready. False where that fails; the logger and `.installed` say why. */
  ensureDependencies(
    pluginName: string,
    pluginPath: string,
    runtime: string,
    dependencies: { file: string; install_command?: string | undefined },
    options?: { signal?: AbortSignal | undefined },
  ): Promise<boolean>;
  isReady(pluginName: string): Promise<boolean>;
  /** `{envsDir}/{name}/bin/python3`, or 'python3' where there is no such file. */
  getPythonPath(pluginName: string): string;
  getNodeModulesPath(pluginName: string): string;
  getEnvPath(pluginName: string): string;
  removeEnvironment(pluginName: string): Promise<void>;
}
