//! The socket path: claims within the manager, connections, holders, dead sockets, and the socket that the manager holds. The ports of
//! probes.

mod claims;
mod dead;
mod dial;
mod file_id;
pub mod held;
mod holders;
mod other_names;
mod ports;

pub use claims::SocketClaims;
pub use dead::remove_dead;
pub use dial::{dial, dial_kind};
pub use file_id::{FileId, SocketFileId};
pub use held::idle::{Activity, IdleGuard, IdleWatch, WatchedDaemon};
pub use held::{HeldEvent, HeldListener, HeldSocket, OwnConnection, Restored, RetiredSocket};
pub use holders::holders;
pub use other_names::{OtherName, remove_other_names};
pub use ports::{is_local, make_free};
