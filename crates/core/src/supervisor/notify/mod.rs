//! The daemon's notifications: the protocol of sd_notify(3), for the probe `notify`.
//!
//! - `socket`: the socket, and what the daemon has said;
//! - `message`: the assignments of one datagram;
//! - `sender`: whether a datagram is the daemon's.

mod message;
mod sender;
mod socket;

pub use message::{Notification, Watchdog};
pub use socket::{NotifySocket, Update};
