//! Removes a dead socket: the file of a daemon that is gone.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use ally_base::os;
use nix::errno::Errno;
use nix::unistd::geteuid;

use super::{SocketFileId, dial, holders};
use crate::error::{Failure, Occupant};

/// The tries, if another file replaces the dead socket during the check.
const ATTEMPTS: u32 = 3;

/// Makes the path free for a daemon. Removes only a socket that refuses connections and that no process holds.
///
/// # Errors
/// `SocketInUse` with the occupant of the path; `Io` if a system call fails.
pub fn remove_dead(path: &Path) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        if try_remove_dead(path)? {
            return Ok(());
        }
    }
    Err(in_use(path, Occupant::Unknown))
}

fn in_use(path: &Path, by: Occupant) -> Failure {
    Failure::SocketInUse { path: path.display().to_string(), by }
}

/// False if another file replaced the dead socket during the check.
fn try_remove_dead(path: &Path) -> Result<bool, Failure> {
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
        // EAGAIN: the listener's queue is full. EPROTOTYPE: a datagram socket is bound.
        Err(Errno::EAGAIN | Errno::EPROTOTYPE) => held(None),
        // A socket that is bound but not listening gives ECONNREFUSED too. Another user's socket gives EACCES or EPERM.
        Err(error @ (Errno::ECONNREFUSED | Errno::EACCES | Errno::EPERM)) => match os::is_held(path) {
            Ok(true) => held(None),
            // The socket of another user may be held in another network namespace, which is not visible here.
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

fn remove(path: &Path, checked: &fs::Metadata) -> Result<bool, Failure> {
    // Another process may have bound a new socket since the check.
    if SocketFileId::at(path) != Some(SocketFileId::of(checked)) {
        return Ok(false);
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Failure::call("unlink", path, error)),
    }
}
