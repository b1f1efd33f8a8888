//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{MsgFlags, getsockopt, sockopt::LocalPeerPid};

/// There is no such flag here; Node ignores the signal, and the guardian blocks it.
pub const NO_SIGPIPE: MsgFlags = MsgFlags::empty();

/// The process that last used what `socket` is connected to (LOCAL_PEERPID, unix(4)): whoever listens, or has accepted.
///
/// # Errors
/// ENOTCONN once the other side has hung up.
pub fn peer_pid(socket: &impl AsFd) -> io::Result<i32> {
    Ok(getsockopt(socket, LocalPeerPid)?)
}
