//! The credentials of the sender of a datagram: unix(7), SCM_CREDENTIALS.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use super::identity::{read, unless_gone};
use crate::os::Sender;
use crate::text::printable;

pub const RECEIVE_FLAGS: libc::c_int = libc::MSG_CMSG_CLOEXEC;

pub const CREDENTIALS_SIZE: usize = size_of::<libc::ucred>();

/// Makes the kernel add the sender's credentials to each datagram.
pub fn pass_credentials(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::PassCred, &true)?)
}

/// The sender, if this control message of SOL_SOCKET has it.
pub fn sender_in(kind: libc::c_int, data: &[u8]) -> Option<Sender> {
    if kind != libc::SCM_CREDENTIALS {
        return None;
    }
    // `struct ucred`: pid, uid, gid.
    let (pid, rest) = data.split_first_chunk()?;
    Some(Sender { pid: i32::from_ne_bytes(*pid), user: u32::from_ne_bytes(*rest.first_chunk()?) })
}

/// The name of a process, as ps(1) shows it, without control characters. `None` if the process is gone.
pub fn command_name(pid: i32) -> Option<String> {
    let name = read(format!("/proc/{pid}/comm")).ok()?;
    Some(printable(&String::from_utf8_lossy(&name)))
}

/// The real user of a process. `None` if the process is gone.
///
/// # Errors
/// Errors of reading /proc/PID/status.
pub fn user_of(pid: i32) -> io::Result<Option<u32>> {
    let Some(status) = unless_gone(read(format!("/proc/{pid}/status")))? else { return Ok(None) };
    let status = String::from_utf8_lossy(&status);
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next()?.parse().ok());
    user.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
