//! The lifecycle machine: pure tests without processes, files or clocks.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod calls;
mod delay;
mod dependencies;
mod exit_after_probe;
mod extension;
mod health;
mod held_socket;
mod interleavings;
mod keeper;
mod memory;
mod on_demand;
mod properties;
mod restart;
mod slow_death;
mod stop;
mod support;
mod table;
mod upgrade;
