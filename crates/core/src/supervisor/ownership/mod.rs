//! The ownership of a plugin's name: folder, lock, record, and orphans.
//!
//! - `lease`: the preparation before the first spawn;
//! - `folder`, `envs_dir`: the plugin's folder and the folder above it;
//! - `lock`, `acquire`: the flock(2) of the name;
//! - `identity`: the identity of a leader;
//! - `orphans`, `posix_session`, `dying_tree`: the stop of orphans;
//! - `live_managers`: the live managers of this process.

mod acquire;
mod dying_tree;
mod envs_dir;
mod folder;
pub mod identity;
mod lease;
pub mod live_managers;
mod lock;
mod orphans;
mod posix_session;

pub use folder::Folder;
pub use identity::{find_leader, identify_leader};
pub use lease::Lease;
pub use lock::{Held, Lock, LockGuard};
pub use posix_session::{SessionMembers, groups_of, posix_session_members};
