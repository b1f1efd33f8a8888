//! Who owns a plugin's name: its folder, its lock, the identity of its leader, and what a dead owner left.
//!
//! - `lease`: the preparation before the first spawn;
//! - `folder`, `envs_dir`: the plugin's folder and what is above it;
//! - `lock`, `acquire`: the flock(2) that stands for the name;
//! - `identity`: whether a recorded leader still lives;
//! - `orphans`, `posix_session`, `dying_tree`: what a dead owner left;
//! - `live_managers`: the managers of this process.

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
pub use identity::identify_leader;
pub use lease::Lease;
pub use lock::{Held, Lock, LockGuard};
pub use posix_session::{SessionMembers, posix_session_members};
