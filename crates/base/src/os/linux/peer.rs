//! The process at the other end of a Unix socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{MsgFlags, getsockopt, sockopt::PeerCredentials};

/// If the other end is closed, send(2) with this flag fails with EPIPE and raises no SIGPIPE.
pub const NO_SIGPIPE: MsgFlags = MsgFlags::MSG_NOSIGNAL;

/// The pid of the process that called listen(2) on the socket at the other end (SO_PEERCRED, unix(7)). 0 if that process is not
/// visible in this pid namespace.
pub fn peer_pid(socket: &impl AsFd) -> io::Result<i32> {
    Ok(getsockopt(socket, PeerCredentials)?.pid())
}

/// The effective user of the process at the other end, at its connect(2) or listen(2).
///
/// # Errors
/// Errors of getsockopt(2).
pub fn peer_user(socket: &impl AsFd) -> io::Result<u32> {
    Ok(getsockopt(socket, PeerCredentials)?.uid())
}

/// The path of a file in an open folder, for bind(2) and connect(2), which know no *at variants: so the length of the folder's own
/// path does not matter, and no other folder can take its place meanwhile.
pub fn folder_address(folder: &impl AsFd, _path: &Path, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_fd().as_raw_fd()))
}
