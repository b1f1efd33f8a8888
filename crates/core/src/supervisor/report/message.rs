//! Messages to the caller's thread.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::lifecycle::{Notice, Ticket};
use crate::model::{Changes, Stream};
use crate::supervisor::output::FollowerId;

/// A failed call.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub plugin: String,
    pub failure: Failure,
    /// If several plugins failed: one refusal per plugin.
    pub causes: Vec<Self>,
}

impl Refusal {
    pub const fn new(plugin: String, failure: Failure) -> Self {
        Self { plugin, failure, causes: Vec::new() }
    }
}

/// The value of a log entry's field, in the type that the caller of `log!` gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LogValue {
    Bool(bool),
    Number(f64),
    Text(String),
}

/// When a plugin of a group was started, from the call of startGroup on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStart {
    pub plugin: String,
    /// Everything that it depends on ran.
    pub queued: Duration,
    pub spawned: Duration,
    pub ready: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Settled {
        ticket: Ticket,
        outcome: Result<(), Refusal>,
    },
    /// A startGroup has succeeded.
    GroupStarted {
        ticket: Ticket,
        starts: Vec<MemberStart>,
    },
    /// `at`: milliseconds since 1970.
    Notice {
        plugin: String,
        notice: Notice,
        at: f64,
    },
    Output {
        plugin: String,
        stream: Stream,
        line: String,
    },
    Log {
        level: tracing::Level,
        text: String,
        fields: Vec<(Cow<'static, str>, LogValue)>,
    },
    /// A follower that has asked for it has lines, or is at its end.
    Lines {
        follower: FollowerId,
    },
    /// Another session has upgraded a shared daemon. `changes`: the changed fields, as that session gave them.
    Upgraded {
        plugin: String,
        changes: Changes,
    },
    /// A published snapshot has changed. Only for the host of shared daemons, which reads it.
    Published {
        plugin: String,
    },
    /// The number of events and lines that were dropped since the last report.
    Dropped {
        events: u64,
        lines: u64,
    },
}

/// How the mailbox counts a message.
pub enum Kind {
    /// Never dropped.
    Answer,
    /// Rare. A dropped event leaves a gap in the history of a daemon.
    Event,
    /// Frequent: its number depends on the output of a daemon. With its length in bytes.
    Line(usize),
}

impl Message {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Settled { .. }
            | Self::GroupStarted { .. }
            | Self::Lines { .. }
            | Self::Upgraded { .. }
            | Self::Published { .. }
            | Self::Dropped { .. } => Kind::Answer,
            Self::Notice { .. } => Kind::Event,
            Self::Output { line, .. } => Kind::Line(line.len()),
            Self::Log { level, text, .. } => {
                if *level <= tracing::Level::INFO {
                    Kind::Event
                } else {
                    Kind::Line(text.len())
                }
            }
        }
    }
}
