//! Where everything about one plugin is reported: to listeners as events, to the logger as log entries.

use std::sync::Arc;

use super::{Listeners, Mailbox, Message};
use crate::lifecycle::Notice;
use crate::supervisor::{LINES_TARGET, Stream};

/// Numbers the managers of this process. A log entry carries it, and is routed by it to that manager's logger.
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
            Notice::Spawned { .. } => false,
            Notice::Checked { .. } => self.listeners.health(),
            Notice::StateChanged { .. } | Notice::Exited { .. } | Notice::RestartScheduled { .. } => true,
        };
        if posted {
            self.mailbox.post(Message::Notice { plugin: self.plugin.as_ref().to_owned(), notice, at });
        }
    }

    /// Whether lines of output have a reader; without one they are not even cut.
    pub fn wants_lines(&self) -> bool {
        self.listeners.output() || tracing::enabled!(target: LINES_TARGET, tracing::Level::DEBUG)
    }

    pub fn line(&self, stream: Stream, line: String) {
        tracing::debug!(target: LINES_TARGET, manager = self.manager, plugin = &*self.plugin, stream = stream.as_str(), "{line}");
        if self.listeners.output() && !self.mailbox.drops_line() {
            self.mailbox.post(Message::Output { plugin: self.plugin.as_ref().to_owned(), stream, line });
        }
    }
}

/// A log entry about one plugin: `log!(reporter, warn, keeper, "the keeper was killed")`.
macro_rules! log {
    ($reporter:expr, $level:ident, $($entry:tt)+) => {
        tracing::$level!(target: $crate::supervisor::TARGET, manager = $reporter.manager, plugin = &*$reporter.plugin, $($entry)+)
    };
}
pub(in crate::supervisor) use log;
