//! The messages between the owner, its guardian and the keepers. Binary, in the machine's own byte order: both ends are of
//! one build, which they tell each other first.
//!
//! ```text
//! owner  ── Hello, then Order (a frame with descriptors) … ──▶ guardian     one stream per manager
//! owner  ◀── Hello, then GuardianReport … ──────────────────── guardian
//! owner  ── KeeperCommand … ──▶ keeper,   owner ◀── KeeperReport … ── keeper     one stream per daemon
//! ```
//!
//! The keeper's end of its stream travels with the order, so a keeper needs no greeting: it is a fork of a guardian that has
//! greeted. End of file on a stream means that the other side is dead, whatever killed it.

mod descriptors;
mod frame;
mod hello;
mod messages;
mod order;

pub use descriptors::{DESCRIPTORS_MAX, Descriptors};
pub use frame::{BadFrame, Frame, FrameBuffer, HEADER, SMALL_MAX, parse_header};
pub use hello::Hello;
pub use messages::{GuardianReport, KeeperCommand, KeeperReport, Stage};
pub use order::{ORDER, Order, OwnerDeath, PAYLOAD_MAX};
