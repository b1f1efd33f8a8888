//! The socket path: who answers there, and what a dead daemon left.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::geteuid;

use crate::error::{Failure, Occupant, errno_text, io_text};
use crate::os;

/// A connection, or at once why there is none: EAGAIN where the listener's queue is full.
pub fn dial(path: &Path) -> Result<OwnedFd, Errno> {
    let address = UnixAddr::new(path)?;
    #[cfg(target_os = "linux")]
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = SockFlag::empty();
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
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

/// Makes the path free for a daemon of ours. Removes only a socket that refuses and that nobody holds.
///
/// # Errors
/// `SocketInUse` with whoever is there; `Io` where that can't be found out.
pub fn clear(path: &Path) -> Result<(), Failure> {
    let in_use = |by| Err(Failure::SocketInUse { path: path.display().to_string(), by });
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(Failure::io(path, io_text(&error))),
    };
    if !file.file_type().is_socket() {
        return in_use(Occupant::NotASocket);
    }
    match dial(path) {
        Ok(client) => in_use(match os::peer_pid(&client) {
            Ok(pid) if pid > 0 && os::start_time(pid).is_some() => Occupant::Process(pid),
            // Whoever called listen(2) is gone and has left it to somebody, or can't be seen from here.
            Ok(_) | Err(_) => holder(path),
        }),
        Err(Errno::ENOENT) => Ok(()),
        // The queue is full, so there is one.
        Err(Errno::EAGAIN) => in_use(holder(path)),
        // Bound but not listening refuses as well, and so do a datagram socket and another user's in their own ways.
        Err(error @ (Errno::ECONNREFUSED | Errno::EPROTOTYPE | Errno::EACCES | Errno::EPERM)) => match os::is_held(path) {
            Ok(true) => in_use(holder(path)),
            // It may live where we can't see it, in another network namespace.
            Ok(false) if matches!(error, Errno::EACCES | Errno::EPERM) && file.uid() != geteuid().as_raw() => in_use(Occupant::Unknown),
            Ok(false) => remove(path, &file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Failure::io(path, io_text(&error))),
        },
        Err(error) => Err(Failure::io(path, errno_text(error as i32))),
    }
}

/// Whoever holds the socket now.
fn holder(path: &Path) -> Occupant {
    os::holders(path).first().map_or(Occupant::Unknown, |pid| Occupant::Process(*pid))
}

fn remove(path: &Path, seen: &fs::Metadata) -> Result<(), Failure> {
    // Somebody may have bound a new one since.
    let same = fs::symlink_metadata(path).is_ok_and(|now| (now.ino(), now.dev()) == (seen.ino(), seen.dev()));
    if !same {
        return Ok(());
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io(path, io_text(&error))),
    }
}
