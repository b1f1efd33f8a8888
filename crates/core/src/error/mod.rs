//! Failures: one enum with a code and a text for each case. The JavaScript layer turns a failure into an Error.

mod facts;
mod text;

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use ally_base::record::Elsewhere;
use ally_base::text::io_text;

use serde::{Deserialize, Serialize};

use crate::model::{Exit, MemoryLimit, Pid, ProbeRole, ProcessState};

pub use facts::Facts;

/// The codes of the public surface (`ManagerError['code']`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// The reason why a plugin can't be started with what it depends on.
#[derive(Debug, Clone, PartialEq)]
pub enum DependencyProblem {
    /// `nearest`: a known name that looks alike.
    Unknown { name: String, nearest: Option<String> },
    /// The names along the cycle. The first one is also the last one.
    Cycle { names: Vec<String> },
    /// It is at rest, or came to rest before it ran. With its failure.
    NotRunning { name: String, cause: Box<Failure> },
    /// Another plugin of the group failed.
    GroupFailed,
    /// A shared plugin names one that is not shared, which other sessions don't have.
    NotShared { name: String },
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

#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// `field problem` reads as a sentence: "startupTimeout must be …".
    InvalidConfig {
        field: String,
        problem: String,
    },
    AlreadyRunning(ProcessState),
    /// The socket listens already, and the first connection starts the daemon.
    AlreadyArmed,
    AlreadyUpgrading,
    ShuttingDown,
    NotFound,
    OwnedElsewhere {
        owner: Option<Pid>,
    },
    /// A start of an exclusive plugin: its name is that of a shared one. `linger`: what is left of it, if no session has the daemon.
    SharedElsewhere {
        host: Pid,
        sessions: u32,
        linger: Option<Duration>,
    },
    /// The note in the lock is of another boot or namespace.
    OwnedOutside {
        pid: Pid,
        place: Elsewhere,
    },
    SocketInUse {
        path: String,
        by: Occupant,
    },
    /// Another process has put a socket or a file in the place of the one that the manager holds. A restart would not help.
    SocketTaken {
        path: String,
        by: Occupant,
    },
    /// The daemon has bound a socket of its own at `socketPath`, although the manager holds one, or has failed to. `cause`: its exit.
    BindsHeldSocket {
        path: String,
        cause: Option<Box<Failure>>,
    },
    /// The daemon has called shutdown(2) on the socket that the manager holds.
    SocketShutDown {
        path: String,
    },
    /// The names of the held socket are gone, so a new socket is in its place, which the daemon does not have.
    SocketReplaced {
        path: String,
    },
    /// The daemon is shared, and the sessions that have it use another configuration. `fields`: where the two differ. `upgraded`: an
    /// upgrade made them differ.
    SharedDiffers {
        fields: Vec<String>,
        upgraded: bool,
    },
    /// Another live owner writes this log file.
    LogFileOwned {
        path: String,
        owner: Option<Pid>,
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
    /// The kernel does not show the queues of sockets, which an option needs.
    NoQueueDiag {
        problem: String,
    },
    /// Each guardian ended before its keeper had reported a process. `ending`: what happened to the last one.
    GuardianLost {
        /// The guardian's program.
        path: String,
        ending: String,
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
    /// `ally-daemons stop --force`, or another process that has sent the keeper SIGTERM.
    EndedBy {
        pid: Pid,
    },
    /// whenRunning of a stopped plugin.
    AtRest,
    StopFailed {
        survivors: Vec<Pid>,
    },
    /// A daemon of another owner could not be ended, and nothing was signalled.
    NotEnded {
        problem: String,
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
    /// The leader exited just after a probe had connected to it.
    ExitsWhenProbed {
        by: ProbeRole,
        cause: Box<Failure>,
    },
    /// The leader exited with one of `restart.preventExitCodes`.
    RestartPrevented {
        code: i32,
        cause: Box<Failure>,
    },
    Unhealthy {
        checks: u32,
        last: String,
    },
    /// The tree used more memory than `limits.maxMemory`. Both are bytes.
    OverMemory {
        memory: u64,
        limit: MemoryLimit,
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
    Dependency {
        problem: DependencyProblem,
    },
    /// startGroup. The failures of its plugins are the causes of the refusal.
    GroupNotStarted {
        problem: String,
    },
    /// stopGroup, as above.
    GroupNotStopped {
        problem: String,
    },
    /// upgradeProcess. `cause`: what a start of the new generation would have said.
    Upgrade {
        cause: Box<Failure>,
    },
    /// The first connections started the daemon too often.
    TooManyActivations {
        limit: u32,
        period: Duration,
    },
    /// A fault of this package.
    Internal {
        problem: String,
    },
    /// The host of shared daemons can't be used by this process. `host`: its pid, if it is known.
    HostRefuses {
        host: Option<Pid>,
        problem: String,
    },
    /// The host of shared daemons does not answer.
    HostSilent {
        problem: String,
    },
    /// A failure in the host of shared daemons.
    Remote {
        facts: Box<Facts>,
        cause: Option<Box<Failure>>,
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
            Some(
                libc::ENOENT
                | libc::ENOTDIR
                | libc::EISDIR
                | libc::ELOOP
                | libc::ENAMETOOLONG
                | libc::EACCES
                | libc::ENOEXEC
                | libc::ETXTBSY,
            ) => Self::Unsupported { problem, path: program, refused },
            Some(_) | None => Self::Spawn { problem, refused },
        }
    }

    /// The failure that caused this one. Its text ends the text of this failure.
    pub fn cause(&self) -> Option<&Self> {
        match self {
            Self::LeftoverFile { cause }
            | Self::ExitsWhenProbed { cause, .. }
            | Self::RestartPrevented { cause, .. }
            | Self::Upgrade { cause } => Some(cause),
            Self::AttemptsExhausted { last, .. } | Self::WindowExhausted { last, .. } => Some(last),
            Self::BindsHeldSocket { cause, .. } | Self::Remote { cause, .. } => cause.as_deref(),
            Self::Dependency { problem: DependencyProblem::NotRunning { cause, .. } } => Some(cause),
            _ => None,
        }
    }

    /// The last cause that is about the same plugin.
    fn root(&self) -> &Self {
        // The facts of a remote failure are those of its root already.
        if matches!(self, Self::Dependency { .. } | Self::Remote { .. }) {
            return self;
        }
        self.cause().map_or(self, Self::root)
    }

    pub fn code(&self) -> Code {
        match self {
            Self::InvalidConfig { .. } => Code::InvalidConfig,
            Self::AlreadyRunning(_) | Self::AlreadyArmed | Self::AlreadyUpgrading => Code::AlreadyRunning,
            Self::Upgrade { .. } => Code::Upgrade,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::NotFound => Code::NotFound,
            Self::OwnedElsewhere { .. }
            | Self::SharedElsewhere { .. }
            | Self::OwnedOutside { .. }
            | Self::LogFileOwned { .. }
            | Self::SharedDiffers { .. }
            | Self::HostRefuses { .. } => Code::OwnedElsewhere,
            Self::Remote { facts, .. } => facts.code,
            Self::SocketInUse { .. } | Self::SocketTaken { .. } | Self::BindsHeldSocket { cause: None, .. } => Code::SocketInUse,
            // Without a wait status: the keeper was killed.
            Self::StartupExit { exit: Exit::UNKNOWN, .. } | Self::Ended { exit: Exit::UNKNOWN, .. } => Code::Internal,
            Self::StartupExit { .. } | Self::Ended { .. } => Code::StartupExit,
            Self::StartupTimeout { .. } => Code::StartupTimeout,
            Self::Stopped | Self::EndedBy { .. } | Self::AtRest => Code::Stopped,
            Self::StopFailed { .. } | Self::NotEnded { .. } => Code::StopFailed,
            Self::Io { .. } | Self::LeftoverFile { .. } => Code::Io,
            Self::Spawn { .. } => Code::Spawn,
            Self::Unsupported { .. } | Self::NoQueueDiag { .. } => Code::Unsupported,
            Self::Internal { .. } | Self::GuardianLost { .. } | Self::HostSilent { .. } => Code::Internal,
            Self::Unhealthy { .. }
            | Self::OverMemory { .. }
            | Self::TooManyActivations { .. }
            | Self::SocketShutDown { .. }
            | Self::SocketReplaced { .. } => Code::Unhealthy,
            Self::Dependency { .. } | Self::GroupNotStarted { .. } => Code::Dependency,
            Self::GroupNotStopped { .. } => Code::StopFailed,
            Self::AttemptsExhausted { last: cause, .. }
            | Self::WindowExhausted { last: cause, .. }
            | Self::ExitsWhenProbed { cause, .. }
            | Self::RestartPrevented { cause, .. }
            | Self::BindsHeldSocket { cause: Some(cause), .. } => cause.code(),
        }
    }

    pub fn pid(&self) -> Option<Pid> {
        match self {
            Self::HostRefuses { host, .. } => *host,
            Self::SharedElsewhere { host, .. } => Some(*host),
            Self::Remote { facts, .. } => facts.pid,
            Self::OwnedElsewhere { owner } | Self::LogFileOwned { owner, .. } => *owner,
            // In any other place the pid names another process here.
            Self::OwnedOutside { pid, place: Elsewhere::NetworkNamespace } => Some(*pid),
            Self::SocketInUse { by: Occupant::Process(pid), .. } | Self::SocketTaken { by: Occupant::Process(pid), .. } => Some(*pid),
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
            Self::Remote { facts, .. } => facts.path.as_deref(),
            Self::Spawn { refused: Some(refused), .. } => refused.path.as_deref(),
            Self::Io { path, .. } | Self::LogFileOwned { path, .. } | Self::Unsupported { path, .. } | Self::GuardianLost { path, .. } => {
                Some(path)
            }
            _ => None,
        }
    }

    pub fn exit(&self) -> Exit {
        match self.root() {
            Self::StartupExit { exit, .. } | Self::Ended { exit, .. } => *exit,
            Self::Remote { facts, .. } => facts.exit,
            _ => Exit::UNKNOWN,
        }
    }

    /// The last lines of the daemon's output, unchanged.
    pub fn tail(&self) -> Option<&str> {
        match self.root() {
            Self::Remote { facts, .. } => facts.stderr.as_deref(),
            Self::StartupExit { tail, .. } | Self::StartupTimeout { tail, .. } | Self::Ended { tail, .. } if !tail.is_empty() => Some(tail),
            _ => None,
        }
    }
}
