//! The system's odd corners, asked about real processes and sockets.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod processes;
mod sockets;

use std::time::{Duration, Instant};

#[track_caller]
fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !seen() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}
