//! Waiting for a fact, with a deadline.

use std::time::{Duration, Instant};

/// Above the duration of any wait of a test that passes.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until `is_true`, and panics at the deadline.
#[track_caller]
pub fn until(fact: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {fact}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
