//! The folder of the sockets for notifications (probe `notify`): one per user, with a short path, because a socket address holds
//! about a hundred bytes. A socket that no process holds any more is removed at the next start of a guardian.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{UnixAddr, bind};
use nix::unistd::geteuid;

use crate::os::{is_datagram_socket_alive, random_bytes};

/// A socket under its first name is being made. After this time its maker is gone.
const MAKING_MAX: Duration = Duration::from_secs(60);
/// The first character of the first name. bind(2) makes the file before a connection finds the socket, so another process could
/// take a new socket for a dead one.
const MAKING: &str = ".";

/// The folders to try, in this order. /run/user is not the first, because it is removed at the user's logout.
fn folders() -> [PathBuf; 3] {
    let user = geteuid();
    [format!("/tmp/ally-{user}"), format!("/run/user/{user}/ally"), format!("/dev/shm/ally-{user}")].map(PathBuf::from)
}

/// Binds a datagram socket to a new file with a random name, of mode 0600. Returns its path.
///
/// # Errors
/// No folder can be used: the errors of the first, with its path.
pub fn bind_socket(socket: &OwnedFd) -> Result<PathBuf, (PathBuf, io::Error)> {
    let mut first = None;
    for folder in folders() {
        match make(&folder).and_then(|()| bind_in(&folder, socket)) {
            Ok(path) => return Ok(path),
            Err(error) => drop(first.get_or_insert((folder, error))),
        }
    }
    Err(first.unwrap_or_else(|| (PathBuf::new(), io::ErrorKind::NotFound.into())))
}

fn bind_in(folder: &Path, socket: &OwnedFd) -> io::Result<PathBuf> {
    let name = format!("{:010x}", u64::from_be_bytes(random_bytes()?) >> 24);
    let (making, path) = (folder.join(format!("{MAKING}{name}")), folder.join(name));
    bind(socket.as_raw_fd(), &UnixAddr::new(&making)?)?;
    fs::set_permissions(&making, Permissions::from_mode(0o600)).and_then(|()| fs::rename(&making, &path)).inspect_err(|_| {
        // The socket is closed next, and the sweep removes what can't be removed now.
        fs::remove_file(&making).unwrap_or_default();
    })?;
    Ok(path)
}

/// Makes the folder, or checks that it is this user's own.
fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        // The umask may have removed permissions.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o700))?,
        Err(_) => {}
    }
    if is_own(folder)? { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Whether no other user can have made or changed the folder. A symlink is none.
fn is_own(folder: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(folder)?;
    Ok(found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o777 == 0o700)
}

/// Removes the sockets that no process holds.
pub fn sweep() {
    for folder in folders() {
        if !is_own(&folder).unwrap_or(false) {
            continue;
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if is_dead(&entry.path()).unwrap_or(false) {
                // Another sweep may have removed it.
                fs::remove_file(entry.path()).unwrap_or_default();
            }
        }
    }
}

fn is_dead(path: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    let is_making = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(MAKING.as_bytes()));
    if !found.file_type().is_socket() || (is_making && found.modified()?.elapsed().unwrap_or_default() < MAKING_MAX) {
        return Ok(false);
    }
    is_datagram_socket_alive(path).map(|alive| !alive)
}
