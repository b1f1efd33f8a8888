//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{MsgFlags, getsockopt, sockopt::PeerCredentials};

/// A write to an end that nobody reads any more is an error, and no signal.
pub const NO_SIGPIPE: MsgFlags = MsgFlags::MSG_NOSIGNAL;

/// The process that called listen(2) on what `socket` is connected to (SO_PEERCRED, unix(7)).
/// 0 where that process can't be seen from this pid namespace.
pub fn peer_pid(socket: &impl AsFd) -> io::Result<i32> {
    Ok(getsockopt(socket, PeerCredentials)?.pid())
}
