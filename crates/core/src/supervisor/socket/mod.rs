//! The socket path: claims within the manager, connections, holders, and dead sockets. The ports of probes.

mod claims;
mod dead;
mod dial;
mod file_id;
mod holders;
mod other_names;
mod ports;

pub use claims::SocketClaims;
pub use dead::remove_dead;
pub use dial::{dial, dial_kind};
pub use file_id::SocketFileId;
pub use holders::holders;
pub use other_names::{OtherName, remove_other_names};
pub use ports::{is_local, make_free};
