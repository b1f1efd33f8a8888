//! Signals with a check of the process's identity. macOS has no signal by handle.

use std::io;
use std::os::fd::OwnedFd;

use super::identity::identify;
use super::kqueue;
use crate::os::Process;

/// A process, and a descriptor that is readable when the process has ended.
#[derive(Debug)]
pub struct Handle {
    process: Process,
    pub fd: Option<OwnedFd>,
}

/// Always `Ok`: macOS has no pidfd, and each signal goes by kill(2), just after a check of the pid.
pub const fn check_pidfd() -> io::Result<()> {
    Ok(())
}

/// Opens `process`. `None` if the process is gone.
///
/// # Errors
/// Errors of [`identify`]: it is then unknown whether the pid still belongs to `process`.
pub fn open(process: &Process) -> io::Result<Option<Handle>> {
    let ident = usize::try_from(process.pid).map_err(io::Error::other)?;
    let watched = kqueue::new().and_then(|queue| kqueue::add(&queue, ident, libc::EVFILT_PROC, libc::NOTE_EXIT).map(|()| queue));
    let fd = match watched {
        Ok(queue) => Some(queue),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        // EMFILE, or EACCES for a process of another user: `signal` works without the descriptor.
        Err(_) => None,
    };
    let handle = Handle { process: *process, fd };
    Ok(handle.is_same()?.then_some(handle))
}

impl Handle {
    fn is_same(&self) -> io::Result<bool> {
        Ok(identify(self.process.pid)?.is_some_and(|now| now.start == self.process.start))
    }

    /// Sends `signal`. If the process is gone, the result is `Ok`.
    ///
    /// # Errors
    /// EPERM if the process belongs to another user. Errors of [`identify`]: the process then gets no signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // Between this check and kill(2) the pid can only be reused if the process ends and is reaped. The kernel does not
        // reuse a pid so soon.
        if !self.is_same()? {
            return Ok(());
        }
        // SAFETY: integers only.
        if unsafe { libc::kill(self.process.pid, signal) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
    }
}

/// A process group. macOS has only the group's number, which the kernel may reuse, so [`Self::of`] always fails.
#[derive(Debug)]
pub struct Group;

impl Group {
    /// # Errors
    /// Always `Unsupported`.
    pub fn of(_maker: i32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Errors
    /// None: [`Self::of`] never returns a group.
    pub fn signal(&self, _signal: i32) -> io::Result<()> {
        Ok(())
    }
}

/// Sends `signal` to `process`. If the process is gone, no process gets the signal and the result is `Ok`.
///
/// # Errors
/// EPERM, and the errors of [`open`].
pub fn signal(process: &Process, signal: i32) -> io::Result<()> {
    open(process)?.map_or(Ok(()), |handle| handle.signal(signal))
}
