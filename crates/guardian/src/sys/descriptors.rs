//! Descriptors: close, pipe, poll.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;

/// Closes all descriptors but these, also those that values of this program own: such a value must not be used or dropped
/// afterwards.
#[cfg(target_os = "linux")]
pub fn close_all_but(mut kept: Vec<RawFd>) {
    kept.sort_unstable();
    let mut first = 0;
    for last in kept.iter().map(|fd| fd - 1).chain([RawFd::MAX]) {
        // SAFETY: integers only. The caller answers for the values that own these descriptors.
        if first <= last && unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
            return close_listed("/proc/self/fd", &kept);
        }
        first = last.saturating_add(2);
    }
}

#[cfg(target_os = "macos")]
pub fn close_all_but(kept: Vec<RawFd>) {
    close_listed("/dev/fd", &kept);
}

/// For systems without close_range(2): Linux before 5.9, and macOS.
fn close_listed(folder: &str, kept: &[RawFd]) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let listed: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in listed.into_iter().filter(|fd| !kept.contains(fd)) {
        // SAFETY: as above; the descriptor of the listing is closed already.
        unsafe { libc::close(fd) };
    }
}

/// The read end and the write end of a pipe, close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    #[cfg(target_os = "linux")]
    return Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?);
    #[cfg(target_os = "macos")]
    {
        let (read, write) = nix::unistd::pipe()?;
        for end in [&read, &write] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        Ok((read, write))
    }
}

/// Sleeps until poll(2) reports an event of a descriptor, or the timeout has elapsed. Returns the `revents`. Signals stay blocked.
pub fn poll<const N: usize>(fds: [(Option<&OwnedFd>, libc::c_short); N], timeout: Option<Duration>) -> [libc::c_short; N] {
    let mut polled = fds.map(|(fd, events)| libc::pollfd { fd: fd.map_or(-1, AsRawFd::as_raw_fd), events, revents: 0 });
    let timeout = timeout.map_or(-1, |timeout| libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX));
    let count = libc::nfds_t::try_from(N).unwrap_or_default();
    // SAFETY: the array has `count` entries and outlives the call. poll(2) ignores negative descriptors.
    unsafe { libc::poll(polled.as_mut_ptr(), count, timeout) };
    polled.map(|entry| entry.revents)
}

/// Whether the other end of a stream socket is closed.
pub fn is_closed(stream: &OwnedFd) -> bool {
    let [events] = poll([(Some(stream), 0)], Some(Duration::ZERO));
    events & libc::POLLHUP != 0
}

/// Whether a read returns at once.
pub fn is_readable(fd: &OwnedFd) -> bool {
    let [events] = poll([(Some(fd), libc::POLLIN)], Some(Duration::ZERO));
    events & libc::POLLIN != 0
}

/// Reads up to 4 KiB and drops the bytes. The buffer is small so that the process stays small. False at end of file.
pub fn discard(fd: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    matches!(nix::unistd::read(fd, &mut buffer), Ok(1..) | Err(Errno::EINTR | Errno::EAGAIN))
}
