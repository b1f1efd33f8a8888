//! The socket path: who answers there, and what a dead daemon left.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::geteuid;

use crate::error::{Failure, Occupant};
use crate::lifecycle::Pid;
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

/// How often another file may take a dead one's place while it is looked at.
const ATTEMPTS: u32 = 3;

/// Tells one socket file from the next: a file system may give both the same inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Mark {
    fn of(file: &fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) }
    }
}

/// `None` if there is no file.
pub fn mark(path: &Path) -> Option<Mark> {
    fs::symlink_metadata(path).ok().map(|file| Mark::of(&file))
}

/// Makes the path free for a daemon of ours. Removes only a socket that refuses and that nobody holds.
///
/// # Errors
/// `SocketInUse` with whoever is there; `Io` where that can't be found out.
pub fn clear(path: &Path) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        if try_clear(path)? {
            return Ok(());
        }
    }
    Err(in_use(path, Occupant::Unknown))
}

fn in_use(path: &Path, by: Occupant) -> Failure {
    Failure::SocketInUse { path: path.display().to_string(), by }
}

/// False if another file took its place meanwhile.
fn try_clear(path: &Path) -> Result<bool, Failure> {
    let held = |maker| Err(in_use(path, holders(path, maker).first().map_or(Occupant::Unknown, |pid| Occupant::Process(*pid))));
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(true),
        Err(error) => return Err(Failure::call("lstat", path, error)),
    };
    if !file.file_type().is_socket() {
        return Err(in_use(path, Occupant::NotASocket));
    }
    match dial(path) {
        Ok(client) => held(os::peer_pid(&client).ok()),
        Err(Errno::ENOENT) => Ok(true),
        // The queue is full, or the socket is one for datagrams, so there is one.
        Err(Errno::EAGAIN | Errno::EPROTOTYPE) => held(None),
        // Bound but not listening refuses as well, and so does another user's in its own way.
        Err(error @ (Errno::ECONNREFUSED | Errno::EACCES | Errno::EPERM)) => match os::is_held(path) {
            Ok(true) => held(None),
            // It may live where we can't see it, in another network namespace.
            Ok(false) if matches!(error, Errno::EACCES | Errno::EPERM) && file.uid() != geteuid().as_raw() => {
                Err(in_use(path, Occupant::Unknown))
            }
            Ok(false) => remove(path, &file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(Failure::at(path, error)),
        },
        Err(error) => Err(Failure::call("connect", path, error)),
    }
}

/// Who has the socket, as far as that shows. Its `maker`, who called listen(2), comes first if he is one of them, and counts
/// for want of any while he lives: he may have left it to somebody, and his pid be another's by now.
pub fn holders(path: &Path, maker: Option<Pid>) -> Vec<Pid> {
    let mut holders = os::holders(path);
    let Some(maker) = maker.filter(|maker| *maker > 0) else { return holders };
    if let Some(at) = holders.iter().position(|holder| *holder == maker) {
        holders.swap(0, at);
    } else if holders.is_empty() && os::start_time(maker).is_some() {
        holders.push(maker);
    }
    holders
}

fn remove(path: &Path, seen: &fs::Metadata) -> Result<bool, Failure> {
    // Somebody may have bound a new one since.
    if mark(path) != Some(Mark::of(seen)) {
        return Ok(false);
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Failure::call("unlink", path, error)),
    }
}
