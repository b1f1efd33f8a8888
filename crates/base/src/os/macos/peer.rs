//! The process at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{MsgFlags, getsockopt, sockopt::LocalPeerPid};

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
