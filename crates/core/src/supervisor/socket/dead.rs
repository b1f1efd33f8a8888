//! Whether the socket at a path is dead: the file that a daemon left.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use ally_base::os;
use nix::errno::Errno;
use nix::unistd::geteuid;

use super::{SocketFileId, dial, holders};
use crate::error::{Failure, Occupant};

/// How often another file may take a dead one's place while it is looked at.
const ATTEMPTS: u32 = 3;

/// Makes the path free for a daemon of ours: removes a socket that refuses connections and has no holder, and nothing else.
///
/// # Errors
/// `SocketInUse` with whoever is there; `Io` where that can't be found out.
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

/// False if another file took its place meanwhile.
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

fn remove(path: &Path, seen: &fs::Metadata) -> Result<bool, Failure> {
    // Somebody may have bound a new one since.
    if SocketFileId::at(path) != Some(SocketFileId::of(seen)) {
        return Ok(false);
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Failure::call("unlink", path, error)),
    }
}
