//! macOS: libproc, kqueue, sysctl. Reviewed, not yet run (README, limits).

mod descriptors;
mod identity;
mod kqueue;
mod peer;
mod queue;
mod tree;
mod watch;

pub use identity::{
    BOOT_ID, began_with, boot_id, holds, identify, is_ending, look_up, must_be_visible, start_time, supplementary_groups, working_directory,
};
pub use peer::{NO_SIGPIPE, peer_pid};
pub use queue::{AcceptState, accept_queue_is_visible, accept_state, holders, is_held, refuses_when_full};
pub use tree::{Group, HAS_SUBREAPER, Handle, descendants, members, open, own_children, posix_session, signal};
pub use watch::{FolderWatcher, Key};
