//! The lifecycle machine: pure tests without processes, files or clocks.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod delay;
mod interleavings;
mod properties;
mod restart;
mod support;
mod table;
