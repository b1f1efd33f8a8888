//! Connects to a socket path without waiting.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// A connection, or the errno of connect(2) at once: EAGAIN if the listener's queue is full, EPROTOTYPE if the socket at the path
/// is not of type SOCK_STREAM.
pub fn dial(path: &Path) -> Result<OwnedFd, Errno> {
    dial_kind(path, SockType::Stream)
}

/// The same with a socket of this type.
pub fn dial_kind(path: &Path, kind: SockType) -> Result<OwnedFd, Errno> {
    let address = UnixAddr::new(path)?;
    #[cfg(target_os = "linux")]
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = SockFlag::empty();
    let client = socket(AddressFamily::Unix, kind, flags, None)?;
    #[cfg(not(target_os = "linux"))]
    {
        use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
        fcntl(&client, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        fcntl(&client, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    loop {
        match connect(client.as_raw_fd(), &address) {
            Ok(()) => return Ok(client),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
