//! Carries out what the lifecycle decides: files, sockets, timers, output and the guardian. One task
//! owns one daemon; commands come in by a channel, and what the getters read goes out as a published
//! value.
//!
//! ```text
//!   Manager ── feed(event) ──▶ Daemon { machine }  ── effects ──▶ task ──▶ guardian, keeper, probes, files
//!      ▲                          │  ▲                              │
//!      └── snapshot ◀── publish ──┘  └──────── feed(event) ─────────┘
//! ```
//!
//! All of it runs on one thread of our own, made at the first start.

mod announce;
mod clock;
mod daemon;
mod files;
mod guardian_client;
mod keeper;
mod mailbox;
mod manager;
mod order;
mod orphan;
mod output;
mod prepare;
mod probe;
mod runtime;
mod shared;
mod socket;
mod task;
mod watch;

pub use daemon::Published;
pub use files::{Folder, Identity, Lock, LockNote};
pub use mailbox::{LogValue, Mailbox, Message, Refusal};
pub use manager::{Accepted, Manager};
pub use output::{LINE_MAX, Splitter, Stream, Tail};
pub use shared::Options;

/// The target of every record but those of output, for `ALLY_LOG` filters.
const TARGET: &str = "ally";
