//! Carries out the effects of the lifecycle. Each daemon has one task. Calls become events, and the getters read a published
//! snapshot.
//!
//! ```text
//!   Manager ── feed(event) ──▶ Daemon { machine } ── effects ──▶ Task ──▶ guardian, keeper, probes, files
//!      ▲                          │  ▲                             │
//!      └── snapshot ◀── publish ──┘  └──────── feed(event) ────────┘
//! ```
//!
//! From a call down to the system:
//!
//! - `manager`: the registry of daemons, and the calls of the API;
//! - `daemon`: one plugin's machine, task and attempt;
//! - `launch`: the order to the guardian;
//! - `guardian`: the owner's ends of the streams to guardian and keepers;
//! - `probe`: readiness and health;
//! - `notify`: the daemon's notifications;
//! - `ownership`: folder, lock, identity, orphans;
//! - `socket`: the socket path, and the ports of probes;
//! - `output`: stdout and stderr of daemons;
//! - `metrics`: counters, and samples of trees;
//! - `report`: messages to the caller's thread, log entries;
//! - `runtime`: the supervisor's thread.

mod daemon;
pub(crate) mod guardian;
mod launch;
mod manager;
mod metrics;
mod notify;
mod output;
mod ownership;
mod probe;
mod report;
pub(crate) mod runtime;
mod socket;

pub use daemon::Published;
pub use guardian::GuardianProgram;
pub use launch::OwnerLimits;
pub use manager::{Accepted, AcceptedGroup, Leftovers, Manager, Options, SessionStart, check};
pub(crate) use manager::{
    Begun, Explained, GroupStart, ManagerContext, Outcome, SharedPlugins, Usable, at_index, log_not_stopped, not_started, not_stopped,
    parse_all, settle_group,
};
pub use metrics::{Counts, Durations, PluginMetrics, Resources, TextFormat, text as metrics_text};
pub use notify::{Notification, Watchdog};
pub use output::{Batch, Follower, FollowerId, LINE_MAX, Line, LineMatch, LineSearch, OutputCounts, Splitter, Tail};
pub use ownership::{Folder, Holder, Lock, LockGuard, Observation, ObservedGeneration, Observer, Usage, leader};
pub(crate) use ownership::{await_tree_end, read_note};
pub use probe::http;
pub(crate) use report::Reporter;
pub use report::{LogEntry, LogValue, Mailbox, MemberStart, Message, Refusal};

pub use runtime::{spawn, start};
pub(crate) use socket::dial;
pub use socket::{Activity, HeldEvent, HeldListener, HeldSocket, IdleGuard, IdleWatch, Restored, RetiredSocket, WatchedDaemon, make_free};

/// The tracing target of all log entries except lines of output. `ALLY_LOG` filters by target.
pub(crate) const TARGET: &str = "ally";
/// The tracing target of lines of output.
pub(crate) const LINES_TARGET: &str = "ally::output";
