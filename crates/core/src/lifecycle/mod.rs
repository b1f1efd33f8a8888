//! What may happen to one daemon, and what must be done about it. Pure: no clock, no file, no
//! signal, no runtime. Time is handed in, timers are effects, and every race of start, stop, crash
//! and shutdown is therefore a test that runs in microseconds.
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
//! Callers see five states: `starting` (Preparing, Spawning, Booting, BackingOff, and Stopping
//! where a first start failed), `running`, `stopping`, `stopped`, and `error` (Failed, Stuck).
//! The mapping stands in [`Phase::state`] and nowhere else.
//!
//! Every spawn has a generation. An event that carries another generation than the current one is
//! dropped before anything looks at it, so that no late timer, probe or exit of an older process
//! can touch a newer one.

mod event;
mod machine;
mod phase;
mod restart;

pub use event::{Effect, Event, Notice, Signal, Timer};
pub use machine::{KILL_PATIENCE, Machine, Plan};
pub use phase::{Activity, Generation, LastExit, Leader, Now, Phase, Run, Snapshot, StopFor, Ticket, Tree};
pub use restart::{Backoff, RestartOn, RestartPlan, Window};
