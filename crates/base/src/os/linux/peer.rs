//! The process at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{MsgFlags, getsockopt, sockopt::PeerCredentials};

/// If the other end is closed, send(2) with this flag fails with EPIPE and raises no SIGPIPE.
pub const NO_SIGPIPE: MsgFlags = MsgFlags::MSG_NOSIGNAL;

/// The pid of the process that called listen(2) on the socket at the other end (SO_PEERCRED, unix(7)). 0 if that process is not
/// visible in this pid namespace.
pub fn peer_pid(socket: &impl AsFd) -> io::Result<i32> {
    Ok(getsockopt(socket, PeerCredentials)?.pid())
}
