//! What a configuration must be, what it is by default, the environment that comes of it, and what of
//! it no message ever shows.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod environment;
mod fields;
mod raw;
mod secrets;
mod wild;
