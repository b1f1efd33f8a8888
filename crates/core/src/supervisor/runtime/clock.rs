//! The monotonic clock, with one origin for the whole process, and the wall clock.

use std::time::{Duration, Instant, SystemTime};

use once_cell::sync::Lazy;

use crate::lifecycle::Now;

static ORIGIN: Lazy<Instant> = Lazy::new(Instant::now);

pub fn now() -> Now {
    Now { mono: ORIGIN.elapsed(), wall: wall() }
}

/// Milliseconds since 1970.
pub fn wall() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64() * 1e3
}

/// The time since `mono`, which came from [`now`].
pub fn since(mono: Duration) -> Duration {
    ORIGIN.elapsed().saturating_sub(mono)
}
