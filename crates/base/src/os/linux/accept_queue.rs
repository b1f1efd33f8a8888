//! Whether a listener has accepted a connection, by sock_diag(7).
//!
//! While a connection waits in the listener's queue, its peer has no inode; accept(2) creates the inode. So a request for the
//! client's end shows whether the daemon has accepted, without help of the daemon. (`sk_diag_dump_peer` in net/unix/diag.c,
//! Linux 3.3.)

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::sys::stat::fstat;
use once_cell::sync::OnceCell;

use super::sock_diag::{ALL_STATES, ATTR_PEER, SHOW_PEER, attribute, query, u32_at};
use crate::os::AcceptState;

/// Whether [`accept_state`] works on this kernel. A socketpair of this process is the test; the result is cached.
pub fn accept_queue_is_visible() -> bool {
    static VISIBLE: OnceCell<bool> = OnceCell::new();
    let tested = VISIBLE.get_or_try_init(|| {
        let (client, _peer) = std::os::unix::net::UnixStream::pair()?;
        match accept_state(&client) {
            Ok(state) => Ok(state == AcceptState::Accepted),
            // The shortage may end, so the result is not cached.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => Err(error),
            Err(_) => Ok(false),
        }
    });
    // If the test was not possible, the answer is yes: `accept_state` then fails where it is needed.
    tested.is_ok_and(|visible| *visible) || VISIBLE.get().is_none()
}

/// Whether the listener has accepted this connected client. If one side has hung up, the kernel's answer is unreliable, so
/// the caller must check the socket itself first.
pub fn accept_state(client: &(impl AsFd + AsRawFd)) -> io::Result<AcceptState> {
    let inode = u32::try_from(fstat(client)?.st_ino).map_err(io::Error::other)?;
    let mut peer = None;
    query(inode, 0, ALL_STATES, SHOW_PEER, |_, attributes| {
        peer = attribute(attributes, ATTR_PEER).and_then(|value| u32_at(value, 0));
    })?;
    match peer {
        Some(0) => Ok(AcceptState::Waiting),
        Some(_) => Ok(AcceptState::Accepted),
        None => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
    }
}

/// Whether ECONNREFUSED can mean that the listener's queue is full. On Linux connect(2) fails with EAGAIN in this case.
pub const fn refuses_when_full(_path: &Path, _keeper: i32, _leader: i32) -> bool {
    false
}
