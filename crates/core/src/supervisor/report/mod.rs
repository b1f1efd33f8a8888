//! What callers and the logger are told: messages, the mailbox that holds them, and who listens.

mod listeners;
mod log_notice;
mod mailbox;
mod message;
mod reporter;

pub use listeners::Listeners;
pub use mailbox::Mailbox;
pub use message::{LogValue, Message, Refusal};
pub(super) use reporter::log;
pub use reporter::{ManagerId, Reporter};
