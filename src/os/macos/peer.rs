//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt::LocalPeerPid};

/// The process that made what `socket` is connected to (LOCAL_PEERPID, unix(4)).
pub fn peer_pid(socket: &impl AsFd) -> io::Result<i32> {
    Ok(getsockopt(socket, LocalPeerPid)?)
}
