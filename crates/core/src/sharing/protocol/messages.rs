//! The messages between a session and the host. Both are of one build, so the format may change with each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Raw;
use crate::error::Facts;
use crate::lifecycle::Snapshot;
use crate::model::{Changes, Exit, ExitReason, Pid, ProcessState, Stream};
use crate::supervisor::{LogValue, OwnerLimits, PluginMetrics};

/// The number of a request, by which it is answered. Unique within a session.
pub type RequestId = u64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub id: RequestId,
    /// The first call of the session that waits for an answer. Answers of those before it have arrived.
    pub oldest: RequestId,
    pub call: Call,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call {
    Start(Box<Start>),
    /// `changes`: the changed fields as the caller gave them, for the other sessions.
    Upgrade {
        start: Box<Start>,
        changes: Changes,
    },
    LetGo {
        plugin: String,
    },
    /// The session has given up its start, which is in front of this call. It does not have the plugin any more, and what it has asked
    /// about it is answered.
    Abandon {
        plugin: String,
    },
    /// `after`: as that of `Start`.
    StopEverywhere {
        plugin: String,
        after: Option<Pid>,
    },
    Restart {
        plugin: String,
    },
    Wait {
        plugin: String,
    },
    /// Takes a start or a wait back. It is answered as usual.
    Abort {
        plugin: String,
        request: RequestId,
    },
    /// The last message of a connection that the session does not understand: it resumes itself with another one.
    Reconnect,
    /// Metrics of all plugins of this session are wanted for the next minute.
    Metrics,
    Listen(Interest),
    /// `Listed` for each plugin, then the answer.
    List,
    /// `Lines` with what is kept, then the answer, then with `follow` each further line. The session need not have the plugin.
    Output {
        plugin: String,
        lines: u32,
        follow: bool,
    },
}

/// What a session wants to get beside what every session gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interest {
    pub health: bool,
    /// Log entries of level debug.
    pub debug: bool,
    /// Each line of output as it comes. Other sessions get what is kept, and that not at once while much comes.
    pub lines: bool,
    /// The plugins whose lines somebody follows.
    pub followed: Vec<String>,
}

impl Interest {
    pub fn in_lines_of(&self, plugin: &str) -> bool {
        self.lines || self.followed.iter().any(|followed| followed == plugin)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub plugin: String,
    /// Checked by the session, and again by the host.
    pub config: Raw,
    /// The session's environment: `KEY=VALUE`, each with a NUL behind it.
    pub inherited: String,
    pub owner: OwnerLimits,
    /// What is left of `startupTimeout`.
    pub timeout: Duration,
    /// The host whose death made the session send the call again.
    pub after: Option<Pid>,
}

/// What the getters of a session read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub snapshot: Snapshot,
    /// Since RUNNING. In the snapshot it is a time of the host's own clock.
    pub uptime: Option<Duration>,
    pub status: Option<String>,
    pub sessions: u32,
    /// The daemon is being stopped for all sessions.
    pub ends_for_all: bool,
    pub metrics: PluginMetrics,
}

/// A plugin, as the host tells those who look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub plugin: String,
    pub shown: Shown,
    /// What is left of the time that it outlives its last session.
    pub linger: Option<Duration>,
}

/// A notice of the lifecycle that callers hear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Told {
    StateChanged { from: Option<ProcessState>, to: ProcessState, pid: Option<Pid>, reason: Option<String> },
    Exited { pid: Pid, exit: Exit, reason: ExitReason },
    RestartScheduled { attempt: u32, delay: Duration, reason: ExitReason },
    Checked { healthy: bool, latency: Duration, failures: u32, error: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentLine {
    pub stream: Stream,
    pub text: String,
    /// The position behind it in the output of its stream, as the host counts.
    pub end: u64,
    pub at: f64,
    pub pid: Option<Pid>,
}

/// Why a session does not have a plugin any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detachment {
    /// The session has let go.
    Stopped,
    /// Its own startupTimeout is over.
    TimedOut,
    /// Its start was refused before it changed anything.
    Refused,
    /// The daemon was stopped for all sessions, which have heard of it.
    Everywhere,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Push {
    /// The host has read the request.
    Read {
        id: RequestId,
    },
    Answer {
        id: RequestId,
        outcome: Result<(), Vec<Facts>>,
    },
    /// From here on the session hears the plugin's events.
    /// Lines before `at` (milliseconds since 1970) were written before.
    Attached {
        plugin: String,
        shown: Box<Shown>,
        at: f64,
    },
    Detached {
        plugin: String,
        why: Detachment,
    },
    Listed(Box<Listed>),
    Shown {
        plugin: String,
        shown: Box<Shown>,
    },
    Told {
        plugin: String,
        told: Told,
        at: f64,
    },
    /// `output`: the number of the output that they are of, within the host. `dropped`: the lines that are missing in front of these.
    Lines {
        plugin: String,
        output: u64,
        dropped: u64,
        lines: Vec<SentLine>,
    },
    Log {
        plugin: String,
        level: LogLevel,
        text: String,
        fields: Vec<(String, LogValue)>,
    },
    /// Another session has upgraded the plugin to this configuration.
    Upgraded {
        plugin: String,
        changes: Changes,
        config: Raw,
    },
    /// Everything that was not sent yet was dropped, except answers: so many messages. The session has these plugins, and what each
    /// shows follows. `taken`: the highest number of a call that the host had taken.
    Resync {
        lost: u64,
        plugins: Vec<String>,
        taken: RequestId,
    },
    /// A part of a message that is longer than a frame may be.
    Part {
        bytes: Vec<u8>,
        is_last: bool,
    },
    /// The end of the stream that follows is no death. `left`: the plugins that the host could not end.
    Leaving {
        left: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}
