//! macOS has no credentials of datagrams: LOCAL_PEERCRED needs a connected stream. So the sender of a datagram is not known, and
//! the permissions of the socket file alone decide who can send.

use std::io;
use std::os::fd::AsFd;

use super::identity::real_user;
use crate::os::Sender;

pub const RECEIVE_FLAGS: libc::c_int = 0;

pub const CREDENTIALS_SIZE: usize = 0;

/// Does nothing.
pub fn pass_credentials(_socket: &impl AsFd) -> io::Result<()> {
    Ok(())
}

pub const fn sender_in(_kind: libc::c_int, _data: &[u8]) -> Option<Sender> {
    None
}

/// Always `None`: no sender is known.
pub const fn command_name(_pid: i32) -> Option<String> {
    None
}

/// The real user of a process. `None` if the process is gone.
///
/// # Errors
/// Errors of proc_pidinfo other than ESRCH.
pub fn user_of(pid: i32) -> io::Result<Option<u32>> {
    real_user(pid)
}
