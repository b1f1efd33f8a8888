//! The ownership of a plugin's name: folder, lock, record, and orphans.
//!
//! - `lease`: the preparation before the first spawn;
//! - `plugin_folder`, `envs_dir`: the plugin's folder and the folder above it;
//! - `lock`, `acquire`: the flock(2) of the name;
//! - `successor`: the owner of a folder that replaced the plugin's;
//! - `leader`: the identity of a leader;
//! - `orphans`, `posix_session`, `dying_tree`: the stop of orphans;
//! - `doubtful`: processes that may be orphans, for the log;
//! - `live_managers`: the live managers of this process;
//! - `observe`: what a plugin's files and the kernel tell, for a process that is not the owner;
//! - `leftovers`: the end of what dead owners left, without a start;
//! - `force`: the end of a daemon whose owner lives;
//! - `tree_end`: the end of what a dead owner left, for those who do not want the name.

mod acquire;
mod doubtful;
mod dying_tree;
mod envs_dir;
mod force;
pub mod leader;
mod lease;
mod leftovers;
pub mod live_managers;
mod lock;
mod observe;
mod orphans;
mod plugin_folder;
mod posix_session;
mod successor;
mod tree_end;

pub use force::end as end_by_force;
pub use leader::{SpawnReport, find_leader, living_leader, reported_leader};
pub use lease::{Lease, LeaseGuard, LockFile};
pub use leftovers::{stop as stop_leftovers, tidy as tidy_leftovers};
pub use lock::{Held, Lock, LockGuard};
pub use observe::{Generation as ObservedGeneration, Holder, Observation, Observer, Usage};
pub use plugin_folder::{Folder, read_note};
pub use posix_session::{SessionMembers, groups_of, posix_session_members};
pub use tree_end::await_tree_end;
