//! Probes: the answer to a GET.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod response;
