//! Signals by pidfd, which can't reach a later process of the same pid.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::identity::{identify, unless_gone};
use crate::os::Process;

/// A process, by a name that the kernel does not reuse.
#[derive(Debug)]
pub struct Handle {
    pid: i32,
    /// A pidfd, which is readable when the process has ended. `None` before Linux 5.3, or if no descriptor was free.
    pub fd: Option<OwnedFd>,
}

/// Whether signals go by pidfd. Otherwise each goes by kill(2), just after a check of the pid.
///
/// # Errors
/// The errno of pidfd_open(2).
pub fn check_pidfd() -> io::Result<()> {
    pidfd(crate::os::own_pid()).map(drop)
}

/// Opens `process`. `None` if the process is gone.
///
/// # Errors
/// Errors of [`identify`]: it is then unknown whether the pid still belongs to `process`.
pub fn open(process: &Process) -> io::Result<Option<Handle>> {
    let fd = match unless_gone(pidfd(process.pid)) {
        Ok(None) => return Ok(None),
        Ok(fd) => fd,
        // ENOSYS, EPERM of a seccomp filter, EMFILE: without a pidfd a signal goes by kill(2).
        Err(_) => None,
    };
    // The check follows pidfd_open(2): if the pid belongs to `process` now, the pidfd refers to `process` as well.
    let same = identify(process.pid)?.is_some_and(|now| now.is(process));
    Ok(same.then_some(Handle { pid: process.pid, fd }))
}

impl Handle {
    /// Sends `signal`. If the process is gone, the result is `Ok`.
    ///
    /// # Errors
    /// EPERM if the process belongs to another user.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let Some(fd) = &self.fd else {
            // SAFETY: integers only. Without a pidfd the check of the pid in `open` is the best proof that the kernel offers.
            let sent = unsafe { libc::kill(self.pid, signal) };
            return unless_gone(if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }).map(|_| ());
        };
        send(fd, signal, 0)
    }
}

/// A process group, by the pidfd of the process that made the group: the kernel does not reuse this name for a later group.
#[derive(Debug)]
pub struct Group(OwnedFd);

impl Group {
    /// The group whose number is `maker`: the pid of a process that made the group or may make it, and that was not reaped.
    /// After the end of `maker`, the handle still refers to the group.
    ///
    /// # Errors
    /// ENOSYS before Linux 5.3; EMFILE.
    pub fn of(maker: i32) -> io::Result<Self> {
        pidfd(maker).map(Self)
    }

    /// Sends `signal` to the whole group in one system call, so that a process forked at this time gets the signal too. If the
    /// group is empty, the result is `Ok`.
    ///
    /// # Errors
    /// EINVAL before Linux 6.9.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        /// `PIDFD_SIGNAL_PROCESS_GROUP` of linux/pidfd.h.
        const PROCESS_GROUP: u32 = 4;
        send(&self.0, signal, PROCESS_GROUP)
    }
}

fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and writes no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let raw = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just opened this descriptor (close-on-exec), and no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn send(pidfd: &OwnedFd, signal: i32, flags: u32) -> io::Result<()> {
    // SAFETY: integers and a null siginfo, which pidfd_send_signal(2) allows.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), flags) };
    unless_gone(if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }).map(|_| ())
}

/// Sends `signal` to `process`. If the process is gone, no process gets the signal and the result is `Ok`.
///
/// # Errors
/// EPERM, and the errors of [`open`].
pub fn signal(process: &Process, signal: i32) -> io::Result<()> {
    open(process)?.map_or(Ok(()), |handle| handle.signal(signal))
}
