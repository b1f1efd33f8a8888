//! Log entries of the host's manager become messages, which go to the sessions that have the plugin.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::supervisor::{LogEntry, Mailbox, Message, TARGET};

/// Whether a session reads entries of level debug.
static DEBUG: AtomicBool = AtomicBool::new(false);

/// The first host of a process gets all entries.
pub fn install(mailbox: &Arc<Mailbox>) {
    // Another subscriber: only in a test.
    drop(tracing::subscriber::set_global_default(ToMailbox(Arc::downgrade(mailbox))));
}

pub fn set_debug(on: bool) {
    if DEBUG.swap(on, Ordering::Relaxed) != on {
        // The hint has changed.
        tracing::callsite::rebuild_interest_cache();
    }
}

fn wanted() -> Level {
    if DEBUG.load(Ordering::Relaxed) { Level::DEBUG } else { Level::INFO }
}

struct ToMailbox(Weak<Mailbox>);

impl Subscriber for ToMailbox {
    /// Lines of output come from their followers.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET && *metadata.level() <= wanted()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(wanted()))
    }

    fn event(&self, event: &Event<'_>) {
        let Some(mailbox) = self.0.upgrade() else { return };
        let LogEntry { text, fields } = LogEntry::of(event);
        mailbox.post(Message::Log { level: *event.metadata().level(), text, fields });
    }

    // No code of the supervisor makes spans.

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
