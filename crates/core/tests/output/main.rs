//! A daemon's output: bytes to lines, the bounded tail, and the excerpt for errors.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

#[path = "../../../base/tests/support/allocator.rs"]
mod allocator;

mod error_excerpt;
mod follow;
mod line_match;
mod lines;
mod tail;

use ally_core::model::Stream;
use ally_core::supervisor::Tail;

fn tail_of(writes: &[(Stream, &str)]) -> Tail {
    let tail = Tail::default();
    for (stream, text) in writes {
        tail.append(0, *stream, text.as_bytes());
    }
    tail
}
