//! The socket path: claims within the manager, connections, holders, and dead sockets.

mod claims;
mod dead;
mod dial;
mod file_id;
mod holders;

pub use claims::SocketClaims;
pub use dead::remove_dead;
pub use dial::{dial, dial_kind};
pub use file_id::SocketFileId;
pub use holders::holders;
