//! Two files change their names in one step: rename(2).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// # Errors
/// EINVAL: the file system can't do that. ENOENT: one of the two is missing.
pub fn exchange(folder: impl AsFd, one: &Path, other: &Path) -> io::Result<()> {
    let [one, other] = [one, other].map(|name| CString::new(name.as_os_str().as_bytes()));
    let (one, other, folder) = (one?, other?, folder.as_fd().as_raw_fd());
    // By the system call itself: glibc has the function only since 2.28.
    // SAFETY: both strings end with NUL and outlive the call.
    let renamed = unsafe { libc::syscall(libc::SYS_renameat2, folder, one.as_ptr(), folder, other.as_ptr(), libc::RENAME_EXCHANGE) };
    if renamed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
