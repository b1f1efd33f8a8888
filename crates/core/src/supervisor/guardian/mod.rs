//! The owner's ends of the streams to its guardian and keepers, and the sweep after a killed keeper.
//!
//! - `client`: spawns the guardian at the first need, gives it orders, replaces it if it was killed;
//! - `connection`: one guardian;
//! - `keeper`: one keeper;
//! - `sweep`: ends what a killed keeper left.

mod client;
mod connection;
mod credentials;
mod keeper;
mod sweep;

pub use client::{GuardianClient, GuardianProgram};
pub use connection::GuardianReceipt;
pub use keeper::KeeperStream;
pub use sweep::sweep;
