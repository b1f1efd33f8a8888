//! The parts of the log process, each against what it promises.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod copy;
mod file;
mod lines;
mod queue;
mod rotation;
mod support;
mod two_processes;
