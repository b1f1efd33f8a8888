//! The socket path: claims within the manager, connections, holders, and dead sockets. The ports of probes.

mod claims;
mod dead;
mod dial;
mod file_id;
mod holders;
mod ports;

pub use claims::SocketClaims;
pub use dead::remove_dead;
pub use dial::{dial, dial_kind};
pub use file_id::SocketFileId;
pub use holders::holders;
pub use ports::{is_local, make_free};
