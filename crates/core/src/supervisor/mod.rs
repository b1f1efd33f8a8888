//! Carries out what the lifecycle decides. One task owns one daemon; calls come in as events, and the getters read a
//! published snapshot.
//!
//! ```text
//!   Manager ── feed(event) ──▶ Daemon { machine } ── effects ──▶ Task ──▶ guardian, keeper, probes, files
//!      ▲                          │  ▲                             │
//!      └── snapshot ◀── publish ──┘  └──────── feed(event) ────────┘
//! ```
//!
//! From a call down to the system:
//!
//! - `manager`: the registry and the verbs;
//! - `daemon`: one plugin's machine, task and attempt;
//! - `launch`: the order from which a daemon is made;
//! - `guardian`: the owner's ends of the streams;
//! - `probe`: readiness and health;
//! - `ownership`: folder, lock, identity, orphans;
//! - `socket`: the socket path;
//! - `output`: what daemons print;
//! - `report`: messages to the caller, entries for the logger;
//! - `runtime`: the one thread on which all of this runs.

mod daemon;
mod guardian;
mod launch;
mod manager;
mod output;
mod ownership;
mod probe;
mod report;
mod runtime;
mod socket;

pub use daemon::Published;
pub use guardian::GuardianProgram;
pub use manager::{Accepted, Manager, Options, check};
pub use output::{LINE_MAX, Splitter, Stream, Tail};
pub use ownership::{Folder, Lock, LockGuard, identity};
pub use report::{LogValue, Mailbox, Message, Refusal};

/// The target of all log entries but lines of output, for `ALLY_LOG` filters.
const TARGET: &str = "ally";
/// The target of lines of output.
const LINES_TARGET: &str = "ally::output";
