//! The capacity of a pipe: pipe(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets the capacity of a pipe, which the kernel rounds up to a power of two pages.
///
/// # Errors
/// EPERM: the user's pipes have `pipe-user-pages-soft` pages already, so none may grow. EBUSY: the pipe holds more bytes.
pub fn resize_pipe(pipe: impl AsFd, bytes: i32) -> io::Result<()> {
    // SAFETY: an integer argument, and a descriptor that outlives the call.
    let capacity = unsafe { libc::fcntl(pipe.as_fd().as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
    if capacity < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
