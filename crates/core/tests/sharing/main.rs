//! Sharing: the protocol of sessions and host, and the messages that wait for a session. The processes are tested in
//! crates/guardian/tests/host and in `__tests__/sharing`.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod greeting;
mod outbox;
mod path;
mod protocol;
mod upgrades;
