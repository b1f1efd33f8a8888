//! The owner's ends of the streams to guardian and keepers, and the sweep after a killed keeper.
//!
//! - `client`: spawns the guardian for the first order, sends orders, replaces a killed guardian;
//! - `connection`: the stream to one guardian;
//! - `keeper`: the stream to one keeper;
//! - `suspended`: a guardian that does not act;
//! - `sweep`: ends the processes that a killed keeper left.

mod client;
mod connection;
mod credentials;
mod keeper;
mod suspended;
mod sweep;

pub use client::{GuardianClient, GuardianProgram};
pub use connection::GuardianReceipt;
pub use keeper::{KeeperProber, KeeperStream, StreamEnd};
pub use sweep::sweep;
