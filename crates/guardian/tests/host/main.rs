//! The host of shared daemons as a process: how it is made, whom it answers, and when it leaves. Sessions are managers of the test.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod ending;
mod greeting;
mod leave;
mod output;
mod played;
mod resume;
mod start;
mod support;
