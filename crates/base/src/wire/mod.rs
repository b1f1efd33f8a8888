//! The messages between the owner, its guardian and the keepers. The format is binary, in native byte order. Both ends exchange
//! [`Hello`] first and continue only if their builds are equal.
//!
//! ```text
//! owner  ── Hello, then Order (a frame with descriptors) … ──▶ guardian     one stream per manager
//! owner  ◀── Hello, then GuardianReport … ──────────────────── guardian
//! owner  ── KeeperCommand … ──▶ keeper,   owner ◀── KeeperReport … ── keeper     one stream per daemon
//! log process  ── LogNote … ──▶ owner                                        one pipe per daemon with a log file
//! ```
//!
//! The keeper's end of its stream comes with the order. A keeper sends no `Hello`: the keeper is a fork of a guardian that has
//! sent `Hello`. End of file on a stream means that the process at the other end is dead, for any cause.

mod descriptors;
mod frame;
mod hello;
mod limits;
mod log_note;
mod messages;
mod order;

pub use descriptors::{DESCRIPTORS_MAX, Descriptors};
pub use frame::{BadFrame, Frame, FrameBuffer, HEADER, SMALL_MAX, parse_header};
pub use hello::Hello;
pub use limits::{Limits, ResourceLimit};
pub use log_note::LogNote;
pub use messages::{GuardianReport, KeeperCommand, KeeperReport, LeaderUsage, Stage};
pub use order::{LogOrder, ORDER, Order, OwnerDeath, PAYLOAD_MAX};
