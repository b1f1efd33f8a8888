//! Failures: one enum with a code and a text for each case. The JavaScript layer turns a failure into an Error. The texts
//! of `Display` fit behind the "Failed to …:" of [`Failure::message`].

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use ally_base::text::{errno_text, io_text, printable, signal_name};

use crate::model::{Exit, Pid, ProcessState};

/// The codes of the public surface (`ManagerError['code']`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidConfig,
    AlreadyRunning,
    ShuttingDown,
    OwnedElsewhere,
    SocketInUse,
    Spawn,
    StartupExit,
    StartupTimeout,
    Stopped,
    StopFailed,
    NotFound,
    Io,
    Dependency,
    Upgrade,
    Internal,
    Unsupported,
    Unhealthy,
}

impl Code {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidConfig => "ERR_INVALID_CONFIG",
            Self::AlreadyRunning => "ERR_ALREADY_RUNNING",
            Self::ShuttingDown => "ERR_SHUTTING_DOWN",
            Self::OwnedElsewhere => "ERR_OWNED_ELSEWHERE",
            Self::SocketInUse => "ERR_SOCKET_IN_USE",
            Self::Spawn => "ERR_SPAWN",
            Self::StartupExit => "ERR_STARTUP_EXIT",
            Self::StartupTimeout => "ERR_STARTUP_TIMEOUT",
            Self::Stopped => "ERR_STOPPED",
            Self::StopFailed => "ERR_STOP_FAILED",
            Self::NotFound => "ERR_NOT_FOUND",
            Self::Io => "ERR_IO",
            Self::Dependency => "ERR_DEPENDENCY",
            Self::Upgrade => "ERR_UPGRADE",
            Self::Internal => "ERR_INTERNAL",
            Self::Unsupported => "ERR_UNSUPPORTED",
            Self::Unhealthy => "ERR_UNHEALTHY",
        }
    }
}

/// The occupant of a socket path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    Process(Pid),
    Plugin(String),
    /// A listener with a process outside this PID namespace, or of another user.
    Unknown,
    NotASocket,
    /// Whether a process uses the path can't be found out.
    Unjudged {
        reason: String,
    },
}

/// A system call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub errno: i32,
    /// `None` if several calls are possible.
    pub call: Option<&'static str>,
    pub path: Option<String>,
}

impl Refused {
    /// `None` if the error has no errno.
    pub fn by(error: &io::Error, call: Option<&'static str>, path: Option<&str>) -> Option<Self> {
        error.raw_os_error().map(|errno| Self { errno, call, path: path.map(str::to_owned) })
    }
}

/// The reason of a [`Failure::Io`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileProblem {
    /// A system call failed. `call` is `None` if several calls are possible.
    Refused { errno: i32, call: Option<&'static str> },
    /// A check of this crate failed. `errno`: the errno that describes the problem, if there is one.
    Found { text: String, errno: Option<i32> },
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { errno, .. } => f.write_str(&errno_text(*errno)),
            Self::Found { text, .. } => f.write_str(text),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// `field problem` reads as a sentence: "startupTimeout must be …".
    InvalidConfig {
        field: String,
        problem: String,
    },
    AlreadyRunning(ProcessState),
    ShuttingDown,
    NotFound,
    OwnedElsewhere {
        owner: Option<Pid>,
    },
    /// The note in the lock is of another boot or pid namespace, so its pid names another process here.
    OwnedInContainer {
        pid: Pid,
    },
    SocketInUse {
        path: String,
        by: Occupant,
    },
    /// The program can't be run, or fork(2) failed.
    Spawn {
        problem: String,
        refused: Option<Refused>,
    },
    /// The guardian's program can't be run on this platform or in this installation.
    Unsupported {
        problem: String,
        /// The guardian's program.
        path: String,
        refused: Option<Refused>,
    },
    /// The guardian was killed during each attempt to fork a keeper.
    GuardianLost {
        problem: String,
    },
    StartupExit {
        exit: Exit,
        tail: String,
    },
    StartupTimeout {
        socket: String,
        after: Duration,
        /// The reason of the last failed readiness probe.
        last_problem: Option<String>,
        tail: String,
    },
    Stopped,
    /// whenRunning of a stopped plugin.
    AtRest,
    StopFailed {
        survivors: Vec<Pid>,
    },
    Io {
        path: String,
        problem: FileProblem,
    },
    /// Every process of the daemon is gone, but a file of the daemon could not be removed.
    LeftoverFile {
        cause: Box<Failure>,
    },
    /// The leader exited without a stop.
    Ended {
        exit: Exit,
        tail: String,
    },
    Unhealthy {
        checks: u32,
        last: String,
    },
    AttemptsExhausted {
        attempts: u32,
        last: Box<Failure>,
    },
    WindowExhausted {
        limit: u32,
        period: Duration,
        last: Box<Failure>,
    },
    /// A fault of this package.
    Internal {
        problem: String,
    },
}

impl Failure {
    /// A file that failed a check of this crate.
    pub fn io(path: &Path, problem: impl fmt::Display) -> Self {
        let problem = FileProblem::Found { text: problem.to_string(), errno: None };
        Self::Io { path: path.display().to_string(), problem }
    }

    /// A failed system call about a file; the call is not known.
    pub fn at(path: &Path, error: impl Into<io::Error>) -> Self {
        Self::file(path, error.into(), None)
    }

    /// A failed system call about a file.
    pub fn call(call: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::file(path, error.into(), Some(call))
    }

    fn file(path: &Path, error: io::Error, call: Option<&'static str>) -> Self {
        let problem = match error.raw_os_error() {
            Some(errno) => FileProblem::Refused { errno, call },
            None => FileProblem::Found { text: error.to_string(), errno: None },
        };
        Self::Io { path: path.display().to_string(), problem }
    }

    /// The guardian could not be spawned. If the errno means that the program is missing or can't be executed, the
    /// installation is at fault: `Unsupported`. Otherwise: `Spawn`.
    pub fn guardian(program: &Path, error: &io::Error) -> Self {
        let program = program.display().to_string();
        let problem = format!("the guardian {program} can't be started: {}", io_text(error));
        let refused = Refused::by(error, Some("spawn"), Some(&program));
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::EISDIR | libc::ELOOP | libc::ENAMETOOLONG | libc::EACCES | libc::ENOEXEC) => {
                Self::Unsupported { problem, path: program, refused }
            }
            Some(_) | None => Self::Spawn { problem, refused },
        }
    }

    /// The failure that caused this one. Its text ends the text of this failure.
    pub fn cause(&self) -> Option<&Self> {
        match self {
            Self::LeftoverFile { cause } => Some(cause),
            Self::AttemptsExhausted { last, .. } | Self::WindowExhausted { last, .. } => Some(last),
            _ => None,
        }
    }

    fn root(&self) -> &Self {
        self.cause().map_or(self, Self::root)
    }

    pub fn code(&self) -> Code {
        match self {
            Self::InvalidConfig { .. } => Code::InvalidConfig,
            Self::AlreadyRunning(_) => Code::AlreadyRunning,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::NotFound => Code::NotFound,
            Self::OwnedElsewhere { .. } | Self::OwnedInContainer { .. } => Code::OwnedElsewhere,
            Self::SocketInUse { .. } => Code::SocketInUse,
            // Without a wait status: the keeper was killed.
            Self::StartupExit { exit: Exit::UNKNOWN, .. } | Self::Ended { exit: Exit::UNKNOWN, .. } => Code::Internal,
            Self::StartupExit { .. } | Self::Ended { .. } => Code::StartupExit,
            Self::StartupTimeout { .. } => Code::StartupTimeout,
            Self::Stopped | Self::AtRest => Code::Stopped,
            Self::StopFailed { .. } => Code::StopFailed,
            Self::Io { .. } | Self::LeftoverFile { .. } => Code::Io,
            Self::Spawn { .. } => Code::Spawn,
            Self::Unsupported { .. } => Code::Unsupported,
            Self::Internal { .. } | Self::GuardianLost { .. } => Code::Internal,
            Self::Unhealthy { .. } => Code::Unhealthy,
            Self::AttemptsExhausted { last, .. } | Self::WindowExhausted { last, .. } => last.code(),
        }
    }

    pub const fn pid(&self) -> Option<Pid> {
        match self {
            Self::OwnedElsewhere { owner } => *owner,
            Self::SocketInUse { by: Occupant::Process(pid), .. } => Some(*pid),
            _ => None,
        }
    }

    /// The failed system call, if the root cause is one.
    pub fn refused(&self) -> Option<Refused> {
        match self.root() {
            Self::Spawn { refused, .. } | Self::Unsupported { refused, .. } => refused.clone(),
            Self::Io { path, problem } => match problem {
                FileProblem::Refused { errno, call } => Some(Refused { errno: *errno, call: *call, path: Some(path.clone()) }),
                FileProblem::Found { errno, .. } => errno.map(|errno| Refused { errno, call: None, path: Some(path.clone()) }),
            },
            _ => None,
        }
    }

    /// The file or program that the root cause is about.
    pub fn path(&self) -> Option<&str> {
        match self.root() {
            Self::Spawn { refused: Some(refused), .. } => refused.path.as_deref(),
            Self::Io { path, .. } | Self::Unsupported { path, .. } => Some(path),
            _ => None,
        }
    }

    pub fn exit(&self) -> Exit {
        match self.root() {
            Self::StartupExit { exit, .. } | Self::Ended { exit, .. } => *exit,
            _ => Exit::UNKNOWN,
        }
    }

    /// The last lines of the daemon's output, unchanged.
    pub fn tail(&self) -> Option<&str> {
        match self.root() {
            Self::StartupExit { tail, .. } | Self::StartupTimeout { tail, .. } | Self::Ended { tail, .. } if !tail.is_empty() => Some(tail),
            _ => None,
        }
    }

    /// The `message` of the JavaScript Error.
    pub fn message(&self, plugin: &str) -> String {
        let plugin = printable(plugin);
        match self {
            Self::InvalidConfig { .. } if plugin.is_empty() => format!("Invalid configuration: {self}"),
            Self::InvalidConfig { .. } => format!("Invalid configuration for background process '{plugin}': {self}"),
            Self::AlreadyRunning(_) | Self::AtRest => format!("Process '{plugin}' is {self}"),
            Self::ShuttingDown => self.to_string(),
            Self::NotFound => format!("Process '{plugin}' {self}"),
            Self::StopFailed { .. } | Self::LeftoverFile { .. } => format!("Failed to stop background process '{plugin}': {self}"),
            Self::Internal { .. } => format!("Background process '{plugin}' is lost: {self}"),
            _ => format!("Failed to start background process '{plugin}': {self}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidConfig { field, problem } => write!(f, "{field} {problem}"),
            Self::AlreadyRunning(state) => write!(f, "already {}", state.as_str()),
            Self::ShuttingDown => f.write_str("Cannot start process during shutdown"),
            Self::NotFound => f.write_str("is not known to this manager"),
            Self::OwnedElsewhere { owner: Some(pid) } => write!(f, "another live owner runs it (pid {pid})"),
            Self::OwnedElsewhere { owner: None } => f.write_str("another live owner runs it"),
            Self::OwnedInContainer { pid } => write!(
                f,
                "another live owner runs it in another container (process {pid} there): the lock is held, and its note is of another \
                 pid namespace or boot"
            ),
            Self::SocketInUse { path, by } => match by {
                Occupant::Process(pid) => write!(f, "socket {path} is in use by process {pid}"),
                Occupant::Plugin(name) => write!(f, "socket {path} is in use by plugin '{}'", printable(name)),
                Occupant::Unknown => write!(f, "socket {path} is in use by another process"),
                Occupant::NotASocket => write!(f, "socket path {path} is in use by a file that is not a socket"),
                Occupant::Unjudged { reason } => write!(f, "socket {path} {reason}, remove {path} if nothing uses it"),
            },
            Self::Spawn { problem, .. }
            | Self::Unsupported { problem, .. }
            | Self::GuardianLost { problem }
            | Self::Internal { problem } => f.write_str(problem),
            Self::StartupExit { exit, tail } => {
                write!(f, "the process {} before it was ready{}", ExitText(*exit), Excerpt(tail))
            }
            Self::StartupTimeout { socket, after, last_problem, tail } => {
                let problem = last_problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
                write!(f, "Timeout waiting for socket: {socket} (not ready within {} ms{problem}){}", after.as_millis(), Excerpt(tail))
            }
            Self::Stopped => f.write_str("stopped before it was ready"),
            Self::AtRest => f.write_str("stopped"),
            Self::StopFailed { survivors } if survivors.is_empty() => f.write_str("it is not gone 2 s after SIGKILL"),
            Self::StopFailed { survivors } => {
                let pids: Vec<String> = survivors.iter().map(ToString::to_string).collect();
                write!(f, "not gone 2 s after SIGKILL: pid {}", pids.join(", "))
            }
            Self::Io { path, problem } => write!(f, "{path}: {problem}"),
            Self::LeftoverFile { cause } => write!(f, "it is gone, but a file of it stays: {cause}"),
            Self::Ended { exit, tail } => write!(f, "the process {}{}", ExitText(*exit), Excerpt(tail)),
            Self::Unhealthy { checks, last } => write!(f, "unhealthy after {checks} failed health checks: {last}"),
            Self::AttemptsExhausted { attempts, last } => {
                write!(f, "Maximum restart attempts exceeded ({attempts}): {last}")
            }
            Self::WindowExhausted { limit, period, last } => {
                write!(f, "too many restarts: more than {limit} within {} ms: {last}", period.as_millis())
            }
        }
    }
}

/// `exited with code 3`, `was killed by SIGKILL`.
struct ExitText(Exit);

impl fmt::Display for ExitText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code, self.0.signal) {
            (Some(code), _) => write!(f, "exited with code {code}"),
            (None, Some(signal)) => write!(f, "was killed by {}", signal_name(signal)),
            (None, None) => f.write_str("ended"),
        }
    }
}

/// The last lines of a daemon's output, shortened and without control characters, so that they fit into a message. If the
/// first line that looks like the reason is further up, it comes before them.
struct Excerpt<'a>(&'a str);

const EXCERPT_LINES: usize = 10;
const EXCERPT_LINE_CHARS: usize = 400;

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
        let start = lines.len().saturating_sub(EXCERPT_LINES);
        let (above, last) = lines.split_at(start);
        let mut shown: Vec<&str> = Vec::new();
        if let Some(first) = above.iter().position(|line| looks_like_a_reason(line)) {
            // Rust prints the message of a panic below its place.
            let end = if lines[first].ends_with(':') { first + 2 } else { first + 1 };
            shown.extend(lines[first..end.min(start)].iter().map(String::as_str));
            shown.extend((end < start).then_some("…"));
        }
        shown.extend(last.iter().map(String::as_str));
        for (index, line) in shown.into_iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "\n  " })?;
            f.write_str(&line.chars().take(EXCERPT_LINE_CHARS).collect::<String>())?;
        }
        Ok(())
    }
}

/// `SomeError: …`, `SomeError [CODE]: …`, `panicked at`, `fatal: …`. A stack trace or a dump of fields may follow such a line.
fn looks_like_a_reason(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("Uncaught ").unwrap_or(line);
    if line.contains("panicked at") || line.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("fatal:")) {
        return true;
    }
    let name_end =
        line.find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '.' | '$'))).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    let rest = match rest.strip_prefix(" [") {
        Some(code) => code.split_once(']').map_or(rest, |(_, rest)| rest),
        None => rest,
    };
    (name.ends_with("Error") || name.ends_with("Exception")) && rest.starts_with(':')
}
