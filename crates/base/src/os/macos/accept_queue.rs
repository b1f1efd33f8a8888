//! Whether a listener has accepted a connection, by libproc.
//!
//! From connect(2) on a connection has a socket at the other end, which waits in the listener's queue until accept(2). If a
//! descriptor of the peer process refers to this socket, the connection was accepted. If no descriptor does, an empty queue
//! means that all connections were accepted, including the client's.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{UnixAddr, getpeername};

use super::listeners::Listeners;
use super::peer::peer_pid;
use super::socket_info::{SocketInfo, first_string, sockets_of};
use crate::os::{AcceptState, Listening};

pub fn accept_queue_is_visible() -> bool {
    true
}

/// Whether the listener has accepted this connected client.
///
/// # Errors
/// ENOTCONN if the other side has hung up. EPERM if the sockets of the peer process are not visible.
pub fn accept_state(client: &(impl AsFd + AsRawFd)) -> io::Result<AcceptState> {
    let hung_up = || io::Error::from_raw_os_error(libc::ENOTCONN);
    let listener: UnixAddr = getpeername(client.as_raw_fd()).map_err(|error| match error {
        Errno::EINVAL => hung_up(),
        other => other.into(),
    })?;
    let name = listener.path().map(|path| first_string(path.as_os_str().as_bytes()).to_vec()).ok_or_else(hung_up)?;
    let peer_sockets = sockets_of(peer_pid(client)?);
    let own = SocketInfo::of(nix::unistd::getpid().as_raw(), client.as_raw_fd());
    if own.is_some_and(|own| own.peer_so != 0 && peer_sockets.iter().any(|socket| socket.so == own.peer_so)) {
        return Ok(AcceptState::Accepted);
    }
    let mut listeners = peer_sockets.iter().filter(|socket| socket.listens() && socket.bound_name() == name).peekable();
    if listeners.peek().is_none() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(if listeners.all(|listener| listener.queue == 0) { AcceptState::Accepted } else { AcceptState::Waiting })
}

/// Whether ECONNREFUSED can mean that the listener's queue is full: true if a process of the tree listens at `path`.
pub fn refuses_when_full(path: &Path, keeper: i32, leader: i32) -> bool {
    matches!(Listeners.listening(path, keeper, leader), Ok(Listening::Tree(_)))
}
