//! The guardian and its keepers, as programs: each test starts a guardian of its own, speaks the
//! protocol to it as the addon does, and looks at what becomes of real processes.
//!
//! What is asked here is the kernel's to answer, so nothing is simulated: who is whose child, who is
//! left, who holds a lock. Every fixture ends by itself after a minute, whatever becomes of its test.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod births;
mod damaged;
mod hygiene;
mod loss;
mod owner;
mod stopping;
mod world;
