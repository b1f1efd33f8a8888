//! Reports about one plugin: events for listeners, log entries for the logger.

use std::sync::Arc;

use ally_base::text::Printable;

use super::{Listeners, Mailbox, Message};
use crate::lifecycle::Notice;
use crate::model::Stream;
use crate::supervisor::LINES_TARGET;

/// The number of a manager within this process. A log entry carries it, so that the entry reaches the logger of that manager.
pub type ManagerId = u64;

#[derive(Clone)]
pub struct Reporter {
    pub manager: ManagerId,
    pub plugin: Arc<str>,
    mailbox: Arc<Mailbox>,
    listeners: Arc<Listeners>,
}

impl Reporter {
    pub fn new(manager: ManagerId, plugin: &str, mailbox: &Arc<Mailbox>, listeners: &Arc<Listeners>) -> Self {
        Self { manager, plugin: plugin.into(), mailbox: Arc::clone(mailbox), listeners: Arc::clone(listeners) }
    }

    /// `at`: milliseconds since 1970.
    pub fn notice(&self, notice: Notice, at: f64) {
        self.log_notice(&notice);
        let posted = match notice {
            Notice::Spawned { .. }
            | Notice::Armed
            | Notice::Disarmed
            | Notice::Connected
            | Notice::ChangedOver { .. }
            | Notice::UpgradeFailed { .. }
            | Notice::NotDrained { .. } => false,
            Notice::Checked { .. } => self.listeners.health(),
            Notice::StateChanged { .. } | Notice::Exited { .. } | Notice::RestartScheduled { .. } => true,
        };
        if posted {
            self.mailbox.post(Message::Notice { plugin: self.plugin.as_ref().to_owned(), notice, at });
        }
    }

    /// An event of a shared daemon, which its host has logged.
    pub fn event(&self, notice: Notice, at: f64) {
        if self.listeners.health() || !matches!(notice, Notice::Checked { .. }) {
            self.mailbox.post(Message::Notice { plugin: self.plugin.as_ref().to_owned(), notice, at });
        }
    }

    /// Whether a listener or a log subscriber reads lines. Otherwise output is not split into lines.
    pub fn wants_lines(&self) -> bool {
        self.listeners.output() || tracing::enabled!(target: LINES_TARGET, tracing::Level::DEBUG)
    }

    /// False if there is a listener, and the line was dropped because too many wait.
    pub fn line(&self, stream: Stream, line: String) -> bool {
        tracing::debug!(target: LINES_TARGET, manager = self.manager, plugin = &*self.plugin, stream = stream.as_str(), "{}", Printable(&line));
        !self.listeners.output()
            || (!self.mailbox.drop_line_if_full()
                && self.mailbox.offer(Message::Output { plugin: self.plugin.as_ref().to_owned(), stream, line }))
    }
}

/// A log entry about one plugin: `log!(reporter, warn, keeper, "the keeper was killed")`.
macro_rules! log {
    ($reporter:expr, $level:ident, $($entry:tt)+) => {
        tracing::$level!(target: $crate::supervisor::TARGET, manager = $reporter.manager, plugin = &*$reporter.plugin, $($entry)+)
    };
}
pub(in crate::supervisor) use log;
