//! Linux: /proc, pidfds, sock_diag, inotify.

mod accept_queue;
mod arrivals;
mod boundary;
mod descriptors;
mod exchange;
mod handle;
mod holders;
mod identity;
mod leader_socket;
mod limits;
mod listener;
mod listeners;
mod peer;
mod pipe;
mod priority;
mod random;
mod sender;
mod sock_diag;
mod socket_file;
mod tcp_listeners;
mod tree;
mod usage;
mod watch;

pub use accept_queue::{accept_queue_is_visible, accept_state, refuses_when_full};
pub use arrivals::ArrivalWatcher;
pub use boundary::Boundary;
pub use exchange::exchange;
pub use handle::{Group, Handle, check_pidfd, open, signal};
pub use holders::{bound_socket, flock_holder, holders, is_flocked, is_held};
pub use identity::{
    BOOT_ID, ENVIRONMENT, began_with, boot_id, check_environment_is_readable, holds, identify, initial_variable, is_dumping_core,
    is_ending, is_stopped, look_up, must_be_visible, network_namespace, start_time, supplementary_groups, working_directory,
};
pub use leader_socket::LeaderSocket;
pub use limits::{HAS_OOM_SCORE, RLIMIT_CORE_DUMPS, RLIMIT_OPEN_FILES, resource_limits, umask};
pub use listener::{
    SocketTable, bound_by, listening_socket, others_have_socket, peer_of, peer_socket, socket_id, tree_has_socket, waiting, waiting_in,
};
pub use listeners::Listeners;
pub use peer::{NO_SIGPIPE, folder_address, peer_pid, peer_user};
pub use pipe::resize_pipe;
pub use priority::lower_thread_priority;
pub use random::random_bytes;
pub use sender::{CREDENTIALS_SIZE, RECEIVE_FLAGS, command_name, pass_credentials, sender_in, user_of};
pub use sock_diag::SockDiag;
pub use tcp_listeners::TcpListeners;
pub use tree::{HAS_SUBREAPER, all_that_began_with, descendants, hides_group, members, own_children, posix_session};
pub use usage::{open_files, reserved_files, shared_memory_size, tree_usage};
pub use watch::{FolderWatcher, Key, has_name};
