//! System calls of the guardian and its keepers: processes here, the rest by topic.

mod descriptors;
mod messages;
mod signals;

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

pub use descriptors::{discard, pipe, poll};
pub use messages::{Payload, receive, receive_hello, receive_order, send};
pub use signals::{clear_stop_request, stop_requested, wait_for};

/// For a failure without a remedy: the owner is gone, or the process is gone.
pub fn ignore<T>(result: io::Result<T>) {
    drop(result);
}

/// # Errors
/// ENOTSOCK if `owner` is no socket, and errors of the system calls.
pub fn become_guardian(owner: &OwnedFd) -> io::Result<()> {
    nix::sys::socket::getsockopt(owner, nix::sys::socket::sockopt::SockType)?;
    signals::block_all()?;
    // setsid(2) fails only in a group leader, which the addon does not make of the guardian. The guardian also works without a
    // POSIX session of its own.
    ignore(nix::unistd::setsid().map_err(io::Error::from));
    std::env::set_current_dir("/")?;
    descriptors::close_inherited();
    become_subreaper()
}

#[cfg(target_os = "linux")]
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// macOS has no subreapers (docs/limits.md, "macOS").
#[cfg(target_os = "macos")]
#[expect(clippy::unnecessary_wraps, reason = "the signature of Linux")]
pub fn become_subreaper() -> io::Result<()> {
    Ok(())
}

/// Sets the process name `ally-keeper`, so that `ps` shows keepers and guardian by different names.
#[cfg(target_os = "linux")]
pub fn set_keeper_name() {
    // SAFETY: PR_SET_NAME takes a NUL-terminated string of at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"ally-keeper".as_ptr(), 0, 0, 0) };
}

#[cfg(target_os = "macos")]
pub fn set_keeper_name() {}

/// The pid of the child. 0 in the child.
pub fn fork() -> io::Result<i32> {
    // SAFETY: this program has one thread, so all functions are allowed in the child.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(0),
        nix::unistd::ForkResult::Parent { child } => Ok(child.as_raw()),
    }
}

/// For a child that this process has not reaped: the kernel does not reuse its pid before.
///
/// # Errors
/// EPERM.
pub fn kill_child(child: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    if unsafe { libc::kill(child, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The result of a call of waitpid(2) for any child.
pub enum Reaped {
    Child {
        pid: i32,
        status: i32,
    },
    /// There are children, but no ended child to reap.
    NoneEnded,
    /// ECHILD: there are no children.
    NoChildren,
}

pub fn reap() -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            0 => return Reaped::NoneEnded,
            1.. => return Reaped::Child { pid, status },
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Reaped::NoChildren,
        }
    }
}
