//! macOS: libproc, kqueue, sysctl. Reviewed, not yet run (README, limits).

mod descriptors;
mod identity;
mod kqueue;
mod peer;
mod queue;
mod tree;
mod watch;

pub use identity::{
    BOOT_ID, began_with, boot_id, further_groups, holds, identify, is_ending, look_up, must_be_visible, start_time, working_directory,
};
pub use peer::{NO_SIGPIPE, peer_pid};
pub use queue::{Taken, accept_queue_is_visible, holders, is_held, refuses_when_full, was_taken};
pub use tree::{CHILDREN_COME_BACK, Group, Handle, descendants, members, open, own_children, session, signal};
pub use watch::{FolderWatcher, Key};
