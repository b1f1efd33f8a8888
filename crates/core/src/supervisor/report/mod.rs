//! Reports: messages to the caller's thread, the mailbox for them, and log entries.

mod listeners;
mod log_entry;
mod log_notice;
mod mailbox;
mod message;
mod reporter;

pub use listeners::Listeners;
pub use log_entry::LogEntry;
pub use mailbox::Mailbox;
pub use message::{LogValue, MemberStart, Message, Refusal};
pub(super) use reporter::log;
pub use reporter::{ManagerId, Reporter};
