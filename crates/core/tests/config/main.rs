//! The configuration: fields, defaults, the daemon's environment, and secrets.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod arbitrary_values;
mod difference;
mod environment;
mod exec_probe;
mod fields;
mod held_socket;
mod limits;
mod probes;
mod secrets;
mod shared;
mod support;
