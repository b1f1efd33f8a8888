/**
 * Types of @ally/background-process-manager.
 *
 * Durations are in milliseconds and sizes in bytes, unless a comment says otherwise. The longest
 * duration is 2,147,483,647 ms (almost 25 days); a longer one counts as the longest. A key with the
 * value `undefined` counts as absent, and so does an optional key with the value `null`.
 *
 * @see [Configuration](docs/configuration.md), [Glossary](docs/glossary.md)
 */

// TypeScript 6 and later load an @types package only if a file references it.
/// <reference types="node" />

import { EventEmitter } from 'node:events';

declare global {
  // The `lib` of most projects lacks this symbol. A reference to esnext.disposable would also change
  // the types of iterators, and older versions of @types/node would then fail to compile.
  interface SymbolConstructor {
    readonly asyncDispose: unique symbol;
  }
}

/**
 * The state of a daemon.
 * @see [States and events](docs/states.md)
 */
export declare enum ProcessState {
  /** The daemon is starting, or a restart is pending. It is not ready yet. */
  STARTING = 'starting',
  /** The readiness probe has passed. */
  RUNNING = 'running',
  /** A stop is under way. Processes of the daemon may still live. */
  STOPPING = 'stopping',
  /** The daemon was never started, was stopped, or has exited with code 0 under `restart.on: 'failure'`. */
  STOPPED = 'stopped',
  /** The manager has given the daemon up, with the reason in `lastError`. startProcess may start it again. */
  ERROR = 'error',
}

/**
 * Values for the required fields and the health check fields of a configuration. Frozen.
 * @example { startupTimeout: PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP }
 * @see [Required fields](docs/configuration.md#required-fields)
 */
export declare const PLUGIN_TIMEOUTS: Readonly<{
  /** For `startupTimeout`, in milliseconds. */
  BACKGROUND_PROCESS_STARTUP: 30000;
  /** For `shutdownGracePeriod`, in milliseconds. */
  BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD: 5000;
  /** For `healthcheck.interval`, in milliseconds. */
  BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL: 30000;
  /** For `healthcheck.timeout`, in milliseconds. */
  BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT: 5000;
  /** For `healthcheck.retries`, a count. */
  BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES: 3;
  /** The default of `restart.maxAttempts`, a count. */
  BACKGROUND_PROCESS_MAX_RESTART_ATTEMPTS: 3;
  /** The default of `restart.delay`, in milliseconds. */
  BACKGROUND_PROCESS_RESTART_DELAY: 5000;
}>;

/** `$HOME/.ally/plugin-envs`, with the value of HOME at the load of the package. */
export declare const PLUGIN_ENVS_DIR: string;

export interface ManagerOptions {
  /**
   * The envs folder, an absolute path. It has one folder per plugin, with lock and record.
   * @default `$HOME/.ally/plugin-envs`, with the value of HOME at construction
   * @example '/var/lib/app/plugin-envs'
   * @see [Files](docs/files.md)
   */
  envsDir?: string | undefined;
  /**
   * Receives the manager's log entries and, at debug level, each line of the daemons' output.
   * @default none
   * @example new BackgroundProcessManager({ logger: console })
   * @see [Logger](docs/output.md#logger)
   */
  logger?: Logger | undefined;
  /**
   * The fate of running daemons when their owner ends for any reason, SIGKILL included. 'stop': each
   * tree is gone within its grace period plus 2 s. 'keep': the trees live on without restarts, health
   * checks, memory limit and samples. The next start of the plugin ends its tree before it spawns, also
   * if that spawn then fails.
   * @default 'stop'
   * @example new BackgroundProcessManager({ onOwnerDeath: 'keep' })
   * @see [Death of the owner](docs/stopping.md#death-of-the-owner), [Kept daemons](docs/stopping.md#kept-daemons)
   */
  onOwnerDeath?: 'stop' | 'keep' | undefined;
  /**
   * Values for the keys that a configuration leaves absent: whole fields and not parts of them. An absent
   * or `undefined` key takes the default; with `null` the key is absent. The constructor checks the
   * defaults. `getProcessInfo().config` stays what was given. `{name}` in `logs.file` is the
   * name of the plugin, and must be there. In the `logs.file` of a configuration it has no meaning.
   * @default {}
   * @example { restart: { maxAttempts: 5 } }
   * @see [Defaults](docs/configuration.md#defaults)
   */
  defaults?: Partial<Omit<BackgroundProcessConfig, 'pluginName' | 'pluginPath' | 'command' | 'args' | 'socketPath'>> | undefined;
  /**
   * The absolute path of the guardian's program, for single-file programs that can't ship the guardian
   * beside the addon. It must be of the same build as the addon. A program that is missing, not executable
   * or of another build is ERR_UNSUPPORTED at the start.
   * @default the path beside the addon
   * @example '/opt/app/ally-guardian'
   * @see [Single-file programs](docs/platforms.md#single-file-programs)
   */
  guardianPath?: string | undefined;
}

/**
 * The methods that a logger must have: those of console, pino and winston. If the logger has a method
 * isLevelEnabled, the manager calls `isLevelEnabled('debug')`. `message` is complete by itself; `fields`
 * repeats its values, such as `pluginName`, `pid` and `reason`.
 * `fields` is absent if `message` contains a `%` that console or pino would take for a format.
 * @see [Logger](docs/output.md#logger)
 */
export interface Logger {
  debug(message: string, fields?: object): void;
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
  error(message: string, fields?: object): void;
}

/**
 * The configuration of a daemon.
 * @see [Configuration](docs/configuration.md)
 */
export interface BackgroundProcessConfig {
  /**
   * The name of the plugin and of its folder in `envsDir`. 1 to 255 bytes, without '/' and NUL,
   * neither '.' nor '..'.
   * @example 'search-plugin'
   */
  pluginName: string;
  /**
   * The absolute path of the plugin's folder, which is the daemon's working directory.
   * @example '/srv/plugins/search'
   */
  pluginPath: string;
  /**
   * The program: a path, or a bare name that is looked up in the PATH of the daemon's environment.
   * No shell is involved, except for a file without a `#!` line, which runs by /bin/sh. For a line such as
   * `a && b` use the command 'sh' with the arguments ['-c', 'a && b'].
   * @example process.execPath
   */
  command: string;
  /**
   * The arguments of the program. A number, as plain JavaScript or a manifest may have it, is taken as
   * its text.
   * @example ['daemon.py', '--verbose']
   */
  args: string[];
  /**
   * The absolute path of the daemon's Unix socket, at most 102 bytes on Linux and 98 on macOS. The
   * daemon finds the path in SOCKET_PATH.
   * @example '/run/user/1000/search.sock'
   * @see [Readiness](docs/readiness-and-health.md#readiness)
   */
  socketPath: string;
  /**
   * The time from the end of the preparation to readiness, in milliseconds; at least 1.
   * @example PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_STARTUP
   * @see [Readiness](docs/readiness-and-health.md#readiness)
   */
  startupTimeout: number;
  /**
   * The time between the stop signal and SIGKILL, in milliseconds. With 0, SIGKILL is sent at once.
   * @example PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_SHUTDOWN_GRACE_PERIOD
   * @see [The order of a stop](docs/stopping.md#the-order-of-a-stop)
   */
  shutdownGracePeriod: number;
  /**
   * Variables on top of the caller's environment and of SOCKET_PATH, ALLY_PLUGIN_NAME and
   * PYTHONUNBUFFERED. An entry with the value `undefined` removes the variable. A number or a boolean, as
   * plain JavaScript or a manifest may have it, is taken as its text. ALLY_DAEMON_ID can't be set: each
   * attempt gets its own.
   * @default {}
   * @example { PORT: '8080', NODE_OPTIONS: undefined }
   * @see [Environment](docs/configuration.md#environment)
   */
  envVars?: Record<string, string | undefined> | undefined;
  /**
   * Health checks of the running daemon. Without this option only an exit leads to a restart.
   * @default none
   * @example { interval: 30000, timeout: 5000, retries: 3 }
   * @see [Health](docs/readiness-and-health.md#health)
   */
  healthcheck?: HealthcheckConfig | undefined;
  /**
   * The restarts after a crash or after failed health checks.
   * @default {} (the defaults of RestartPolicy)
   * @example { maxAttempts: 5, delay: 1000 }
   * @see [Restarts](docs/restarts.md)
   */
  restart?: RestartPolicy | undefined;
  /**
   * The log file of the daemon. Without it, the latest lines are kept only in memory.
   * @default none
   * @example { file: '/var/log/search-plugin.log', maxFiles: 3 }
   * @see [Log files](docs/log-files.md)
   */
  logs?: LogPolicy | undefined;
  /**
   * Resource limits of the daemon. What the system refuses is ERR_SPAWN with its errno.
   * @default the limits that the owner has at this start
   * @example { maxMemory: 512 * 1024 * 1024, niceness: 5 }
   * @see [Limits](docs/resources.md#limits)
   */
  limits?: ResourceLimits | undefined;
  /**
   * The probe that ends a start. With the default nothing connects to the daemon.
   * @default { type: 'listen' }; { type: 'accept' } with `socket: 'manager'`
   * @example { type: 'accept' }
   * @see [Readiness](docs/readiness-and-health.md#readiness)
   */
  readiness?: Probe | undefined;
  /**
   * The process that makes the socket at socketPath. 'daemon': the daemon. 'manager': the manager
   * listens there before the daemon exists, and hands the socket over as descriptor 3, as systemd does
   * (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, and ALLY_LISTEN_FD). The socket stays through crashes and
   * restarts, and a client that connects meanwhile waits. In STOPPED and ERROR it is closed.
   * @default 'daemon'
   * @example 'manager'
   * @see [Held sockets](docs/held-sockets.md)
   */
  socket?: 'daemon' | 'manager' | undefined;
  /**
   * The processes that a stop ends. 'tree': the leader and all its descendants, detached ones
   * included. 'group': the leader's process group, for plugins with processes that outlive them.
   * Lines that such a process writes later are read and dropped.
   * @default 'tree'
   * @example 'group'
   * @see [killMode](docs/stopping.md#killmode)
   */
  killMode?: 'tree' | 'group' | undefined;
  /**
   * The name of the signal at the beginning of a stop. The signal must be one that can end a process.
   * @default 'SIGTERM'
   * @example 'SIGINT'
   * @see [stopSignal](docs/stopping.md#stopsignal)
   */
  stopSignal?: string | undefined;
  /**
   * The first receiver of the stop signal. 'leader': the leader alone, so that it can drain its workers
   * or forward the signal. The rest of the tree gets the signal when the leader has exited, or when a
   * quarter of `shutdownGracePeriod` (at most 1 s) is left. 'tree': all processes at once.
   * @default 'leader'
   * @example 'tree'
   * @see [stopSignalTo](docs/stopping.md#stopsignalto)
   */
  stopSignalTo?: 'leader' | 'tree' | undefined;
  /**
   * A label for stopGroup.
   * @default none
   * @example 'search'
   * @see [stopGroup](docs/groups.md#stopgroup-stopallprocesses-stopprocess)
   */
  group?: string | undefined;
  /**
   * The pluginNames of daemons that must be RUNNING before this daemon is spawned. The start waits for
   * one that is starting. If one is unknown or at rest, or depends on this daemon: ERR_DEPENDENCY.
   * @default []
   * @example ['database']
   * @see [dependsOn](docs/groups.md#dependson)
   */
  dependsOn?: string[] | undefined;
  /**
   * The time of the start. 'eager': at startProcess. 'onConnect': at the first
   * connection, which needs `socket: 'manager'`.
   * @default 'eager'
   */
  start?: 'eager' | 'onConnect' | undefined;
  /**
   * With `start: 'onConnect'`: the milliseconds without a connection after which the
   * daemon is stopped. The next connection starts the daemon again.
   * @default never
   * @example 600000
   */
  idleTimeout?: number | undefined;
  /**
   * false: each owner has its own daemon. true: all owners of this user that start the plugin with the
   * same `envsDir` share one daemon, which a process of its own supervises, the host. `linger`: the
   * milliseconds that the daemon outlives its last session.
   * @default false (`linger`: 0)
   * @example { linger: 30000 }
   * @see [Sharing](docs/sharing.md)
   */
  shared?: boolean | { linger?: number | undefined } | undefined;
  /**
   * The part of the caller's environment that the daemon inherits. true: all variables. false: HOME,
   * LOGNAME, PATH, SHELL, TERM, USER, LANG, LC_*, TZ, TMPDIR and XDG_RUNTIME_DIR. An array: these and
   * the named ones. Variables that describe the owner itself, such as NOTIFY_SOCKET, are never inherited.
   * @default true (shared daemons: false)
   * @example ['SSH_AUTH_SOCK']
   * @see [Environment](docs/configuration.md#environment)
   */
  inheritEnv?: boolean | string[] | undefined;
  /**
   * The daemon's file mode creation mask, 0 to 0o777.
   * @default the mask that the owner has at this start
   * @example 0o077
   * @see [Limits](docs/resources.md#limits)
   */
  umask?: number | undefined;
}

/**
 * The fields that plain JavaScript or a manifest leaves out get the defaults of the specification: 30000
 * ms, 5000 ms and 3.
 * @see [Health](docs/readiness-and-health.md#health)
 */
export interface HealthcheckConfig {
  /**
   * Milliseconds from the beginning of one check to the beginning of the next, and from readiness to
   * the first check; at least 1. Checks never overlap.
   * @example PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_INTERVAL
   */
  interval: number;
  /**
   * Milliseconds for one check; at least 1.
   * @example PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_HEALTH_CHECK_TIMEOUT
   */
  timeout: number;
  /**
   * The number of failures in a row at which the daemon is replaced; 0 counts as 1.
   * @example PLUGIN_TIMEOUTS.BACKGROUND_PROCESS_MAX_HEALTH_CHECK_FAILURES
   */
  retries: number;
  /**
   * The probe of each check.
   * @default { type: 'socket' }; { type: 'accept' } with `socket: 'manager'`
   * @example { type: 'accept' }
   */
  probe?: Probe | undefined;
}

/**
 * A question to a daemon, for readiness or health.
 * @see [Readiness and health](docs/readiness-and-health.md)
 */
export type Probe =
  /**
   * The kernel shows that a process of the daemon listens at socketPath. Nothing connects, so a daemon
   * that serves one connection, or exits at an empty one, is not harmed. A hung daemon passes.
   * @example { type: 'listen' }
   * @see [How `listen` is decided](docs/readiness-and-health.md#how-listen-is-decided)
   */
  | { type: 'listen' }
  /** connect(2) to socketPath succeeds. A hung daemon passes as long as its queue has room. */
  | { type: 'socket' }
  /** connect(2) succeeds, and the daemon accepts the connection from its queue. A hung daemon fails. */
  | { type: 'accept' }
  /**
   * The daemon answers GET `path` (default '/') with `status`: a number, or a pair of first and last
   * (default 200 to 299). The request goes over socketPath or, with a `port`, over TCP (`host` default
   * 'localhost': 127.0.0.1 and ::1). Redirects are not followed.
   * @example { type: 'http', path: '/healthz' }
   * @example { type: 'http', path: '/healthz', port: 8080, status: [200, 404] }
   * @see [Probe `http`](docs/readiness-and-health.md#probe-http)
   */
  | {
      type: 'http';
      path?: string | undefined;
      host?: string | undefined;
      port?: number | undefined;
      status?: number | [number, number] | undefined;
    }
  /**
   * The command, run beside the daemon with its environment and folder, exits with code 0 within 1 s
   * (readiness) or `timeout` (health). A bare name is looked up in PATH; there is no shell. A start tries a
   * missing program again until `startupTimeout`. A late command is stopped with
   * everything that it has started. `args` default: none.
   * @example { type: 'exec', command: 'pg_isready', args: ['--quiet'] }
   * @see [Probe `exec`](docs/readiness-and-health.md#probe-exec)
   */
  | { type: 'exec'; command: string; args?: string[] | undefined }
  /**
   * Readiness: the daemon sends READY=1 to NOTIFY_SOCKET, as with sd_notify(3). Health: it sends
   * WATCHDOG=1 at least once per `interval`, which is in WATCHDOG_USEC; `timeout` has no meaning then.
   * Every process of the daemon's tree may send.
   * @example { type: 'notify' }
   * @see [Probe `notify`](docs/readiness-and-health.md#probe-notify)
   */
  | { type: 'notify' }
  /**
   * connect(2) to this TCP port succeeds (`host` default 'localhost': 127.0.0.1 and ::1), and no other
   * program listens there. A hung daemon passes as long as its queue has room.
   * @example { type: 'tcp', port: 8080 }
   * @see [Probe `tcp`](docs/readiness-and-health.md#probe-tcp)
   */
  | { type: 'tcp'; port: number; host?: string | undefined }
  /**
   * Readiness only. The daemon writes a line that matches `pattern`, the source of a regular expression
   * without lookaround and backreferences, to `stream` (default: either). The first 4 KiB of a line are
   * matched, escape sequences of colours included.
   * @example { type: 'output', pattern: '^listening on port \\d+$', stream: 'stdout' }
   * @see [Probe `output`](docs/readiness-and-health.md#probe-output)
   */
  | { type: 'output'; pattern: string; stream?: 'stdout' | 'stderr' | undefined };

/** @see [Restarts](docs/restarts.md) */
export interface RestartPolicy {
  /**
   * The number of restarts in a row before ERROR. With 0 the manager never restarts.
   * @default 3
   * @example 5
   * @see [Two limits](docs/restarts.md#two-limits)
   */
  maxAttempts?: number | undefined;
  /**
   * The delay of the first restart in milliseconds, counted from the crash.
   * @default 5000
   * @example 1000
   */
  delay?: number | undefined;
  /**
   * The growth of the delay before restart n. 'exponential': delay × factor^(n-1). 'linear':
   * delay × n. 'constant': delay.
   * @default 'exponential'
   * @example 'linear'
   */
  backoff?: 'exponential' | 'linear' | 'constant' | undefined;
  /**
   * The growth of an exponential backoff; at least 1.
   * @default 2
   * @example 1.5
   */
  factor?: number | undefined;
  /**
   * The cap of a delay in milliseconds, before jitter. With the default jitter of 0.1 a delay is at most
   * 10 % longer.
   * @default 60000
   * @example 10000
   */
  maxDelay?: number | undefined;
  /**
   * The share, 0 to 1, by which a delay is randomly longer or shorter.
   * @default 0.1
   * @example 0
   */
  jitter?: number | undefined;
  /**
   * The limit of all restarts, including successful ones. More than `limit` restarts within any
   * `period` milliseconds end in ERROR.
   * @default { limit: 10, period: 300000 }
   * @example { limit: 20, period: 600000 }
   * @see [Two limits](docs/restarts.md#two-limits)
   */
  window?: { limit: number; period: number } | undefined;
  /**
   * The exits that lead to a restart. 'always': each exit without a stop. 'failure': an exit with code 0
   * leads to STOPPED instead.
   * @default 'always'
   * @example 'failure'
   */
  on?: 'always' | 'failure' | undefined;
  /**
   * The milliseconds that a restarted daemon must stay in RUNNING before `restartAttempts` becomes 0. With
   * 0 the count is 0 again at readiness. A daemon that crashes earlier, though it was ready, has used up an attempt.
   * @default 0
   * @example 60000
   * @see [Two limits](docs/restarts.md#two-limits)
   */
  resetAfter?: number | undefined;
  /**
   * Exit codes, 0 to 255. If the leader exits with one of these codes without a stop, the state is ERROR at once. The list
   * counts more than `on: 'failure'`: with 0 in it, an exit with code 0 leads to ERROR instead of STOPPED.
   * @default []
   * @example [2, 78]
   * @see [Exit codes without a restart](docs/restarts.md#exit-codes-without-a-restart)
   */
  preventExitCodes?: number[] | undefined;
}

/**
 * The log file of a daemon: its output as it comes, over restarts and after the owner's death.
 * @see [Log files](docs/log-files.md)
 */
export interface LogPolicy {
  /**
   * The absolute path of a file to which the output is appended. No other plugin or owner may write it.
   * Without a file, the latest lines are kept only in memory, and the other fields do nothing.
   * @default none
   * @example '/var/log/search-plugin.log'
   */
  file?: string | undefined;
  /**
   * The size in bytes that a file does not pass. The next line then goes to a new file. At least 1024.
   * @default 10485760
   * @example 50 * 1024 * 1024
   */
  maxSize?: number | undefined;
  /**
   * The number of files that are kept, including the current one. 1: only the current one.
   * @default 5
   * @example 3
   */
  maxFiles?: number | undefined;
  /**
   * Whether older files are gzipped: `file.1.gz`.
   * @default false
   * @example true
   */
  compress?: boolean | undefined;
}

/** @see [Resources and limits](docs/resources.md) */
export interface ResourceLimits {
  /**
   * Bytes of memory of the tree; shared pages count once. If the tree exceeds them for `sustain` milliseconds,
   * the daemon is stopped and restarted, with the reason 'memory'.
   * @default no limit
   * @example 512 * 1024 * 1024
   * @see [Memory limit](docs/resources.md#memory-limit)
   */
  maxMemory?: number | undefined;
  /**
   * The milliseconds above `maxMemory` before a restart.
   * @default 3000
   * @example 10000
   */
  sustain?: number | undefined;
  /**
   * The number of open files (RLIMIT_NOFILE), soft and hard; at least 1.
   * @default the limit of the owner
   * @example 1024
   */
  openFiles?: number | undefined;
  /**
   * Whether a crash may write a core dump (RLIMIT_CORE).
   * @default the limit of the owner
   * @example false
   */
  coreDumps?: boolean | undefined;
  /**
   * The niceness, -20 to 19.
   * @default the niceness of the owner
   * @example 10
   */
  niceness?: number | undefined;
  /**
   * oom_score_adj of proc(5), -1000 to 1000; Linux only.
   * @default the value of the owner
   * @example 500
   */
  oomScoreAdj?: number | undefined;
}

/**
 * A frozen snapshot of a daemon.
 * @see [getProcessInfo](docs/states.md#getprocessinfo)
 */
export interface ProcessInfo {
  state: ProcessState;
  /** The pid of the leader. Absent without a leader. */
  pid?: number;
  /** A frozen copy of the configuration. Values of unknown keys are the given objects themselves. */
  config: BackgroundProcessConfig;
  /** The number of failed checks in a row. A check that passes sets it to 0. */
  failedHealthChecks: number;
  /**
   * The number of restarts in a row, including a pending one. Readiness sets it to 0 or, with
   * `restart.resetAfter`, that many milliseconds in RUNNING.
   */
  restartAttempts: number;
  /** The text of the last failure. A successful start clears it. */
  lastError?: string;
  lastStateChange: Date;
  /** Milliseconds in RUNNING. Absent in other states. */
  uptime?: number;
  /** The number of all restarts of this plugin in this manager. */
  totalRestarts: number;
  /**
   * The exit of the latest leader, with its exit code or the name of the signal. Both are absent if the
   * keeper was killed, and so are `memoryPeak` in bytes and `cpuTime` in milliseconds: those of the leader and
   * the children that it waited for.
   * @see [lastExit](docs/resources.md#lastexit)
   */
  lastExit?: { pid: number; code?: number; signal?: string; at: Date; reason: ExitReason; memoryPeak?: number; cpuTime?: number };
  /** The time of the pending restart. Absent without one, and while the restart waits for an old tree that outlives SIGKILL by 2 s. */
  nextRestartAt?: Date;
  /**
   * The daemon's last STATUS= (probe 'notify'), without control characters and at most 512 characters
   * long. Absent without one, and when the daemon is gone.
   * @see [Probe `notify`](docs/readiness-and-health.md#probe-notify)
   */
  status?: string;
  /**
   * The socket listens, and the first connection starts the daemon. Absent otherwise.
   * @see [On demand](docs/on-demand.md)
   */
  armed?: boolean;
  /**
   * The number of sessions that have the shared daemon, including this one. Absent if the plugin is not
   * shared, or this session has let go of it.
   * @see [Sharing](docs/sharing.md)
   */
  sessions?: number;
}

/**
 * The reason of an exit. 'stopped': a stop. 'crashed': a code other than 0, or a signal. 'exited':
 * code 0 without a stop. 'unhealthy': failed health checks. 'startup': never ready. 'memory':
 * above `limits.maxMemory`. 'upgraded': replaced by upgradeProcess. 'idle': no connection for
 * `idleTimeout`.
 * @see [Events](docs/states.md#events)
 */
export type ExitReason = 'stopped' | 'crashed' | 'exited' | 'unhealthy' | 'memory' | 'upgraded' | 'idle' | 'startup';

/** The times of one start by startGroup, in milliseconds since the call. */
export interface GroupStart {
  pluginName: string;
  /** Every daemon that it depends on ran. */
  queued: number;
  /** Its process was made. */
  spawned: number;
  ready: number;
}

/**
 * A line of output or, if the reader was too slow, the number of lines that were dropped in this place. `at`: the time at which
 * the line was read. `pid`: the leader; 0 if the keeper was killed before its report.
 * @see [Following](docs/output.md#following)
 */
export type LogLine = { stream: 'stdout' | 'stderr'; line: string; at: Date; pid: number; dropped?: undefined } | { dropped: number };

/**
 * The counters of a plugin since the manager knows it, and the newest sample of its tree.
 * @see [getMetrics](docs/resources.md#getmetrics)
 */
export interface ProcessMetrics {
  pluginName: string;
  state: ProcessState;
  /** Milliseconds in RUNNING; 0 in other states. */
  uptime: number;
  /** The number of leaders that were made, by starts and by restarts. */
  starts: number;
  /** The number of restarts by the restart policy. */
  restarts: number;
  /** The number of exits with the reason 'crashed'. */
  crashes: number;
  /** Counts of checks, and latencies in milliseconds. */
  healthChecks: { passed: number; failed: number; lastLatency?: number; p50?: number; p99?: number };
  /**
   * The resources of the tree, while it runs. `cpuPercent`: 100 is one core. `cpuTime`: milliseconds.
   * `memory`: bytes, where pages that processes share count once. The others are counts.
   * @see [Samples](docs/resources.md#samples)
   */
  resources?: {
    cpuPercent: number;
    cpuTime: number;
    memory: number;
    processes: number;
    threads: number;
    openFiles: number;
  };
  /** The bytes that the daemon has written to stdout and stderr. */
  outputBytes: number;
}

/**
 * The arguments of each event's listeners. Subscribers of node:diagnostics_channel get those of stateChange as
 * `ally:daemon:state` and those of exit as `ally:daemon:exit`, and calls as TracingChannels (`ally:daemon:start`, `stop`, `restart`, `upgrade`),
 * without startGroup and stopGroup.
 * @see [Events](docs/states.md#events), [diagnostics_channel](docs/states.md#diagnostics_channel)
 */
export interface ManagerEvents {
  /** The state changed. `from` is absent at the first start of a plugin. */
  stateChange: [{ pluginName: string; from?: ProcessState; to: ProcessState; pid?: number; reason?: string; at: Date }];
  /** The leader ended. `code` or `signal` is present; neither if the keeper was killed. */
  exit: [{ pluginName: string; pid: number; code?: number; signal?: string; reason: ExitReason }];
  /** A restart is pending. `attempt`: counted from 1. `delay`: milliseconds. */
  restart: [{ pluginName: string; attempt: number; delay: number; reason: ExitReason }];
  /** A health check is done. `latency`: milliseconds. `failures`: the failed checks in a row, 0 if healthy. */
  health: [{ pluginName: string; healthy: boolean; latency: number; failures: number; error?: string }];
  /** A line of output, without its newline and a carriage return before it. If too many lines wait for the event loop, further ones are dropped. */
  output: [{ pluginName: string; stream: 'stdout' | 'stderr'; line: string }];
}

/**
 * The `code` of a ManagerError.
 * @see [Codes](docs/errors.md#codes)
 */
export type ManagerErrorCode =
  /** A field is missing, of the wrong type, out of range or not supported yet; the message names it. */
  | 'ERR_INVALID_CONFIG'
  /** The plugin is starting, running or stopping in this manager. */
  | 'ERR_ALREADY_RUNNING'
  /** stopAllProcesses was called. After it the manager starts no daemon. */
  | 'ERR_SHUTTING_DOWN'
  /**
   * Another live owner runs the plugin: `pid`, absent if it is in another container or on another
   * machine. After a start from rest the state is the one before the call. Otherwise it is ERROR: a start in
   * place of a pending restart, restartProcess, a daemon in a folder that was replaced.
   */
  | 'ERR_OWNED_ELSEWHERE'
  /**
   * Another program or another plugin listens at socketPath, or a file that is no socket is there; or the
   * daemon binds socketPath itself, although `socket` is 'manager'.
   */
  | 'ERR_SOCKET_IN_USE'
  /** The program, its folder or its interpreter is missing or can't be executed, or the system refused the process or one of its `limits`. */
  | 'ERR_SPAWN'
  /** The leader ended before readiness: see `exitCode`, `signal` and `stderr`. */
  | 'ERR_STARTUP_EXIT'
  /** The daemon was not ready within `startupTimeout`. */
  | 'ERR_STARTUP_TIMEOUT'
  /** A stop overtook the start; or whenRunning of a stopped plugin. */
  | 'ERR_STOPPED'
  /** Processes of the daemon live 2 s after SIGKILL. The message names their pids. */
  | 'ERR_STOP_FAILED'
  /** `dependsOn` names a plugin that is unknown or does not run (`cause`) or has a cycle, or a plugin of a group failed (`errors`). */
  | 'ERR_DEPENDENCY'
  /** The new generation did not become ready, or failed its first health check; the error has what a start would have said. The old one serves on. */
  | 'ERR_UPGRADE'
  /** The manager knows no plugin of this name. */
  | 'ERR_NOT_FOUND'
  /** A file or folder can't be read, written or removed: see `path`. From a stop: every process is gone, and a file stays. */
  | 'ERR_IO'
  /** A fault of this package: the guardian was killed three times during a spawn, a keeper was killed, or a task panicked. */
  | 'ERR_INTERNAL'
  /**
   * The platform has no addon or no guardian, or the guardian can't be executed: see `path`. Loading this
   * package never fails for want of an addon; startProcess rejects with this code. Also: `socket: 'manager'`
   * with probe `accept` on a kernel without unix_diag.
   */
  | 'ERR_UNSUPPORTED'
  /**
   * `retries` health checks failed in a row, or `limits.maxMemory` was exceeded, or the daemon has shut down
   * the socket that the manager holds, and no restart is left. Seen by whenRunning and in `lastError`.
   */
  | 'ERR_UNHEALTHY';

/**
 * The error of rejected promises, of the constructor, of configFromManifest, logs and metricsText: an Error of the
 * caller's realm. If startProcess or whenRunning is aborted by `signal`, it rejects with the reason of the signal instead.
 * @see [Errors](docs/errors.md)
 */
export interface ManagerError extends Error {
  code: ManagerErrorCode;
  pluginName?: string;
  /** The pid of another process: the other owner, or the process at the socket. */
  pid?: number;
  /** The exit code of the leader. */
  exitCode?: number;
  /** The signal that ended the leader, such as 'SIGKILL'. */
  signal?: string;
  /** The errno of a failed system call, such as 'ENOENT'. */
  errno?: string;
  /** The name of the failed system call, such as 'open'. 'spawn': one of the calls that make a process. */
  syscall?: string;
  /** The file, folder or program of the failed system call. */
  path?: string;
  /** The last lines of stderr, or of stdout if stderr is empty: at most 50 lines or 8 KiB. */
  stderr?: string;
  /** The error behind this one. */
  cause?: unknown;
  /** The errors of an AggregateError (startGroup, stopGroup), one per failed plugin. */
  errors?: Error[];
}

// With this line the helper types below are not exported. Without it, a declaration file exports every type.
export {};

type ManagerEvent = keyof ManagerEvents;
type ManagerListener<E extends ManagerEvent> = (...args: ManagerEvents[E]) => void;
/** The events of every EventEmitter. */
type MetaEvent = 'newListener' | 'removeListener';
type MetaListener = (event: string | symbol, listener: (...args: any[]) => void) => void;

/**
 * Starts, watches, restarts and stops daemons.
 *
 * A method that returns a promise never throws; it rejects with a ManagerError. The getters return at
 * once, from the latest snapshot. Running daemons keep the event loop alive (see unref).
 *
 * @example
 * const manager = new BackgroundProcessManager({ logger: console });
 * await manager.startProcess(config);
 * await manager.stopAllProcesses();
 * @see [States and events](docs/states.md)
 */
// The methods for events are declared one by one, because EventEmitter has type parameters only in newer versions of
// @types/node.
export declare class BackgroundProcessManager extends EventEmitter {
  /** Throws ERR_INVALID_CONFIG for a wrong or unknown option. The first start creates the first process and thread. */
  constructor(options?: ManagerOptions);

  /**
   * Starts a daemon, and resolves when the daemon is ready. An orphan of this plugin is stopped first.
   * If the start fails, the promise rejects, the state is ERROR, and no process of the attempt is left.
   * If the configuration is refused or the plugin is running already, the state does not change. If
   * another owner has the name (ERR_OWNED_ELSEWHERE), everything is as before the call, also for an
   * unknown plugin: state, `lastError` and configuration; no event is emitted. An abort of `signal` or a stop ends the start; the state is then STOPPED. An abort counts until the promise
   * has settled, also after readiness.
   * @see [Configuration](docs/configuration.md), [Abort](docs/stopping.md#abort)
   */
  startProcess(config: BackgroundProcessConfig, options?: { signal?: AbortSignal | undefined }): Promise<void>;
  /**
   * Stops a daemon, and resolves when every process of the daemon is gone and its files are removed.
   * For an unknown or stopped plugin it resolves at once, also if a dead owner has kept a daemon of this name. A pending start or restart is cancelled. If
   * a process lives 2 s after SIGKILL, rejects with ERR_STOP_FAILED. A shared daemon
   * is let go of: it runs on while another session has it. `everywhere` stops it for all sessions.
   * @see [Stopping](docs/stopping.md), [Sharing](docs/sharing.md)
   */
  stopProcess(pluginName: string, options?: { everywhere?: boolean | undefined }): Promise<void>;
  /** Stops all daemons in parallel. After this call the manager starts no daemon. Never rejects. */
  stopAllProcesses(): Promise<void>;
  /** Whether the state is RUNNING. */
  isRunning(pluginName: string): boolean;
  /** The state. `undefined` for an unknown plugin. */
  getState(pluginName: string): ProcessState | undefined;
  /** The pid of the leader, in each state in which a leader exists. */
  getPid(pluginName: string): number | undefined;
  /** A snapshot of the daemon. `undefined` for an unknown plugin. */
  getProcessInfo(pluginName: string): Readonly<ProcessInfo> | undefined;

  /**
   * Stops a daemon, and starts it again with the same configuration. Not counted as a restart attempt. If a plugin of
   * `dependsOn` does not run, the daemon is stopped all the same, and the state is ERROR.
   */
  restartProcess(pluginName: string): Promise<void>;
  /**
   * Replaces a daemon by a new generation, beside the old one: `changes` replace whole fields of its configuration, the
   * environment is the caller's. The old generation serves until the new one is ready and has passed a health check, if there
   * are any, and is stopped then. Resolves when the old one is gone. If the new one fails, rejects with ERR_UPGRADE, and the old
   * one has not noticed. A plugin that does not run is started. A second upgrade, and restartProcess, are
   * ERR_ALREADY_RUNNING meanwhile; a stop ends both generations, and the upgrade rejects with ERR_STOPPED.
   * @example await manager.upgradeProcess('search', { args: ['daemon-v2.py'] })
   * @see [Upgrades](docs/upgrades.md)
   */
  upgradeProcess(pluginName: string, changes?: Partial<BackgroundProcessConfig>): Promise<void>;
  /**
   * Starts daemons in the order of their `dependsOn`, independent ones in parallel. Resolves with the times of each when
   * all of them run. If a daemon fails, the daemons that this call has started are stopped, dependents first, and the
   * promise rejects with an AggregateError with the code ERR_DEPENDENCY. A wrong configuration is refused before
   * anything starts, with its first problem, by index and field. To end a start under way, call stopGroup.
   * @example await manager.startGroup([db, { ...api, dependsOn: [db.pluginName] }])
   * @see [startGroup](docs/groups.md#startgroup)
   */
  startGroup(configs: readonly BackgroundProcessConfig[]): Promise<GroupStart[]>;
  /**
   * Stops the daemons with this `group`, each one after those that depend on it. If daemons can't be stopped, the others
   * are stopped all the same, and the promise rejects with an AggregateError with the code ERR_STOP_FAILED.
   * @see [stopGroup](docs/groups.md#stopgroup-stopallprocesses-stopprocess)
   */
  stopGroup(group: string): Promise<void>;
  /**
   * Resolves when the daemon is RUNNING, and starts nothing. If the plugin is unknown, rejects with ERR_NOT_FOUND; in
   * STOPPED, with ERR_STOPPED; in ERROR, with message and code of the last failure. STOPPED on the way of restartProcess
   * is passed. An abort of `signal` ends the wait with the signal's reason and stops no daemon.
   * @example
   * await manager.whenRunning('search', { signal: AbortSignal.timeout(10_000) });
   * @see [Waiting for RUNNING](docs/states.md#waiting-for-running)
   */
  whenRunning(pluginName: string, options?: { signal?: AbortSignal | undefined }): Promise<void>;
  /** One entry per known plugin. */
  listProcesses(): Readonly<ProcessInfo>[];
  /** Forgets a plugin and its output. False if the plugin was unknown or still has a process. */
  forgetProcess(pluginName: string): boolean;
  /** Reverts unref: running daemons keep the event loop alive. */
  ref(): this;
  /** Neither running daemons nor their waiting output keep the event loop alive, so this process may end. */
  unref(): this;
  /** For `await using`: the same as stopAllProcesses. */
  [Symbol.asyncDispose](): Promise<void>;

  /**
   * The last `lines` lines of output, oldest first. The last 1,000 lines or 256 KiB are kept. Empty for an
   * unknown plugin.
   * @example manager.getOutput('search-plugin', 20)
   * @see [Output](docs/output.md)
   */
  getOutput(pluginName: string, lines?: number): string[];
  /**
   * The last `lines` lines of output (default: all that are kept). With `follow`, then each new line, none missing and none
   * twice, also of the daemons after a restart or a later start. The iteration ends without an error when `signal` aborts, when the plugin is
   * forgotten, or when the loop is left. A reader that is too slow loses the oldest lines and gets their number,
   * `{ dropped: n }`. A follower does not keep the event loop alive.
   *
   * Throws ERR_NOT_FOUND for an unknown plugin, and ERR_INVALID_CONFIG for a wrong option.
   * @example
   * for await (const entry of manager.logs('search-plugin', { lines: 20, follow: true })) {
   *   if (entry.dropped === undefined) console.log(entry.at, entry.stream, entry.line);
   * }
   * @see [Following](docs/output.md#following)
   */
  logs(
    pluginName: string,
    options?: { lines?: number | undefined; follow?: boolean | undefined; signal?: AbortSignal | undefined },
  ): AsyncIterableIterator<LogLine>;
  /**
   * The newest values, one entry per known plugin. The call samples nothing. In the next minute each tree is
   * sampled once a second.
   * @example manager.getMetrics().map(({ pluginName, crashes }) => `${pluginName}: ${crashes}`)
   * @see [getMetrics](docs/resources.md#getmetrics)
   */
  getMetrics(): ProcessMetrics[];
  /**
   * As above, of one plugin. `undefined` for an unknown one.
   * @example manager.getMetrics('search-plugin')?.resources?.memory
   */
  getMetrics(pluginName: string): ProcessMetrics | undefined;
  /**
   * All metrics as OpenMetrics 1.0 text, or in the Prometheus text format 0.0.4. Throws ERR_INVALID_CONFIG for another format.
   * @example response.end(manager.metricsText({ format: 'prometheus' }))
   * @see [Metrics](docs/metrics.md)
   */
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
  // The types are as loose as those of a generic EventEmitter, so that a manager is assignable to EventEmitter<ManagerEvents>.
  /** Node 18.16, 19.8 and later use `listener`. Earlier versions ignore it. */
  listenerCount<K>(event: K, listener?: (...args: any[]) => void): number;
  listeners<K>(event: K): any[];
  rawListeners<K>(event: K): any[];
  eventNames(): any[];
}

/**
 * Turns the `daemon` section of a plugin.json into a configuration for startProcess. If there is no
 * `daemon` section, the function reads Ally's `background` section: `command`, `args`,
 * `communication.path` (the socket), `healthcheck`, `startup_timeout`, `shutdown_grace_period`.
 *
 * Absent and null values get defaults: `args` [], `startupTimeout` 30000 ms, `shutdownGracePeriod` 5000 ms,
 * `socketPath` `{envsDir}/{name}/daemon.sock`. A partial health check is completed with 30000 ms,
 * 5000 ms and 3. Without a health check there is none. The command 'python3' becomes `pythonPath`.
 * All other keys are passed on.
 *
 * `at.pluginPath`, `at.envsDir` (default as in ManagerOptions) and `at.pythonPath` (default
 * `{envsDir}/{name}/bin/python3`) are absolute paths. `at.envVars` wins over the manifest's envVars.
 *
 * Throws ERR_INVALID_CONFIG with the field in the message, such as `manifest.daemon.command`, and for
 * `background.enabled: false`.
 * @example configFromManifest(manifest, { pluginPath: '/srv/plugins/search' })
 * @see [Manifest](docs/manifest.md)
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

/** The options of PluginEnvironmentManager. */
export interface PluginEnvironmentOptions {
  /**
   * The envs folder, an absolute path: that of the BackgroundProcessManager.
   * @default `$HOME/.ally/plugin-envs`, with the value of HOME at construction
   * @example '/var/lib/app/plugin-envs'
   */
  envsDir?: string | undefined;
  /**
   * Receives the entries of installations: their begin, end and failure, and each line of an installer at
   * debug level. The entry of a failure has `code`, and where they are known `exitCode`, `stderr`, `errno`, `path`.
   * @default none
   * @example new PluginEnvironmentManager({ logger: console })
   */
  logger?: Logger | undefined;
  /**
   * Receives each line of an installer, of both streams.
   * @default none
   * @example (line, pluginName) => console.log(`${pluginName}: ${line}`)
   */
  onProgress?: ((line: string, pluginName: string) => void) | undefined;
  /**
   * As `guardianPath` of the BackgroundProcessManager.
   * @default the path beside the addon
   * @example '/opt/app/ally-guardian'
   */
  guardianPath?: string | undefined;
}

/** The `dependencies` of a plugin.json. */
export interface PluginDependencies {
  /**
   * The list of packages: the path of a requirements file or a package.json, relative to the plugin's folder.
   * If the file does not exist, no package is installed, and the logger gets a warning.
   * @example 'requirements.txt'
   */
  file: string;
  /**
   * A shell command that takes the place of `pip install` or `npm install`. It runs in the plugin's folder,
   * with the environment's programs first in PATH. `{pip}` and `{envPath}` are replaced.
   * @default none
   * @example '{pip} install --no-index --find-links wheels -r requirements.txt'
   */
  install_command?: string | null | undefined;
}

/**
 * Makes and removes the environments of plugins: `{envsDir}/{name}` with `bin/python3` or `node_modules`,
 * and the marker `.installed`, which is written last. `pluginName` must be a plain folder name: otherwise a
 * method throws ERR_INVALID_CONFIG, or rejects with it.
 * @example
 * const environments = new PluginEnvironmentManager({ logger: console });
 * await environments.ensureDependencies('search', '/srv/plugins/search', 'python3', { file: 'requirements.txt' });
 * @see [Environments](docs/environments.md)
 */
export declare class PluginEnvironmentManager {
  constructor(options?: PluginEnvironmentOptions);
  /**
   * Makes the environment, unless it is ready. Resolves to true if it is ready then. Resolves to false if it
   * could not be made: the reason goes to the logger and to `.installed`, and the next call tries again.
   * Callers that ask for one plugin at once, also in several processes, make it once. An abort of `signal`
   * ends the tree of the installer, and the call rejects with the signal's reason. Wrong arguments reject
   * with ERR_INVALID_CONFIG, and nothing is changed.
   * @param runtime 'python3' (a virtual environment and pip, or uv where it is in PATH) or 'node' (npm).
   * @example
   * const manifest = { runtime: 'python3', dependencies: { file: 'requirements.txt' } };
   * await environments.ensureDependencies('search', pluginPath, manifest.runtime, manifest.dependencies);
   * @see [Installation](docs/environments.md#installation)
   */
  ensureDependencies(
    pluginName: string,
    pluginPath: string,
    runtime: string,
    dependencies: PluginDependencies,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<boolean>;
  /** Whether `.installed` has the status 'ready', and the environment's Python, if it has one, exists. */
  isReady(pluginName: string): Promise<boolean>;
  /** `{envsDir}/{name}/bin/python3`, or 'python3' if there is no such file. */
  getPythonPath(pluginName: string): string;
  /** `{envsDir}/{name}/node_modules`, whether it exists or not. For NODE_PATH. */
  getNodeModulesPath(pluginName: string): string;
  /** `{envsDir}/{name}`, whether it exists or not. */
  getEnvPath(pluginName: string): string;
  /**
   * Removes the environment. Lock, record and sockets of a daemon stay. Rejects with ERR_IO if a file can't be
   * removed.
   * @see [Removal](docs/environments.md#removal)
   */
  removeEnvironment(pluginName: string): Promise<void>;
}
