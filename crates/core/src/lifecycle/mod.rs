//! The state machine of one daemon: events in, effects out. It is pure: it has no clock, no file, no signal and no runtime.
//! The time is an argument, and timers are effects. A race of start, stop, crash and shutdown is therefore a test that runs
//! in microseconds.
//!
//! ```text
//!                 start                  prepared              spawned              ready
//!   Stopped ───────────────▶ Preparing ────────────▶ Spawning ─────────▶ Booting ─────────▶ Running
//!      ▲  ▲                   ▲     ▲                                      │ exit,             │ │
//!      │  │ stop              │     │ delay over,                          │ no answer   crash │ │
//!      │  └──────── Failed ◀──┼─────┼─ tree gone ◀── out of attempts ◀─────┤                   │ │
//!      │              ▲       │     │                                      ▼                   │ │
//!      │              │       │     └──────────────────────────────── BackingOff ◀─────────────┘ │
//!      │ tree gone    │       │ tree gone                                  ▲                     │
//!      └───────── Stopping ◀──┴────────────────────────────────────────────┼─────────────────────┘
//!                     │                                                    │   stop, unhealthy
//!                     └────────────── unhealthy, tree gone ────────────────┘
//!                     └── not gone 2 s after SIGKILL ──▶ Stuck
//! ```
//!
//! A daemon above its memory limit takes the way of an unhealthy one.
//!
//! If another owner has the name, or what the daemon depends on does not run, a start from rest leads from Preparing back to
//! where it was, without an event.
//!
//! If a restart is pending, "not gone 2 s after SIGKILL" leads to Overdue instead: the restart goes on when the tree is gone.
//!
//! A daemon on demand goes from Stopped through Arming to Armed, and at the first connection to Preparing. Without a connection
//! it goes from Running through Freezing, where its connections are looked at while it is suspended, and Stopping to Armed.
//!
//! An upgrade leads from Running to Upgrading, while a second generation starts (`machine/second.rs`). If the old generation ends
//! meanwhile: AwaitingSuccessor. At the change-over the second generation is the one that serves, in Running, and the former one
//! leaves in its place. If the generations can't run beside each other, the upgrade is a stop and a start, and after a failure
//! another start, of the old configuration.
//!
//! Callers see five states: `starting` (Preparing, Spawning, Booting, AwaitingSuccessor, BackingOff, Overdue, and Stopping after a
//! failed start), `running` (Running, Freezing, Upgrading), `stopping`, `stopped` (Stopped, Arming, Armed), and `error` (Failed,
//! Stuck). [`Phase::state`] is the only place of this mapping.
//!
//! Every attempt has a generation. [`Machine::on`] drops an event of another generation than these two first, so that a late
//! timer, probe or exit of an older attempt has no effect on a newer one.

pub mod dependencies;
mod event;
pub mod holds;
mod machine;
mod phase;
mod restart;

pub use event::{Effect, Event, Notice, Signal, Timer};
pub use machine::{KILL_TIMEOUT, Machine, Plan, Role, Second, Stage};
pub use phase::{
    Acknowledgement, Activity, Ended, Generation, LastExit, Leader, Now, Phase, Rest, Run, Snapshot, StopFor, Ticket, TreeState,
};
pub use restart::{Backoff, ExitCodes, RestartOn, RestartPlan, Window};
