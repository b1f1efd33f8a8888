//! The messages between the owner, its guardian and the keepers. Each message is decoded as it was
//! encoded, and other bytes are refused.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

#[path = "../support/allocator.rs"]
mod allocator;

mod descriptors;
mod frames;
mod hello;
mod orders;
mod reports;
