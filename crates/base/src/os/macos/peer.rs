//! The process at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::socket::{MsgFlags, getsockopt, sockopt::LocalPeerPid};
use nix::unistd::getpeereid;

/// Empty: macOS has no MSG_NOSIGNAL. Node ignores SIGPIPE, and the guardian blocks SIGPIPE.
pub const NO_SIGPIPE: MsgFlags = MsgFlags::empty();

/// The pid of the process that last used the socket at the other end (LOCAL_PEERPID, unix(4)): the process that listens, or the
/// process that has accepted.
///
/// # Errors
/// ENOTCONN if the other side has hung up.
pub fn peer_pid(socket: &impl AsFd) -> io::Result<i32> {
    Ok(getsockopt(socket, LocalPeerPid)?)
}

/// The effective user of the process at the other end, at its connect(2) or listen(2).
///
/// # Errors
/// ENOTCONN if the other side has hung up.
pub fn peer_user(socket: &impl AsFd) -> io::Result<u32> {
    Ok(getpeereid(socket)?.0.as_raw())
}

/// The path of a file in an open folder, for bind(2) and connect(2). macOS has no path by descriptor.
pub fn folder_address(_folder: &impl AsFd, path: &Path, name: &str) -> PathBuf {
    path.join(name)
}
