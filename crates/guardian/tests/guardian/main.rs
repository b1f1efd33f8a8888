//! The guardian and its keepers, as programs. Each test starts a guardian, speaks the protocol of the
//! addon, and reads the state of real processes, pipes and locks from the kernel.
//!
//! Every fixture process ends by itself after a minute, also if its test fails.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

#[path = "../../../base/tests/support/namespace.rs"]
mod namespace;
#[path = "../../../base/tests/support/rerun.rs"]
mod rerun;
#[path = "../record/start.rs"]
mod start;
#[path = "../../../base/tests/support/until.rs"]
mod until;

mod damaged_orders;
mod ended_by;
mod freeze;
mod generations;
mod isolation;
mod killed_keeper;
mod leader_first;
mod limits;
mod listening;
mod owner_death;
mod probes;
mod spawning;
mod stopping;
mod support;
mod suspended;
