//! Removes a dead socket: the file of a daemon that is gone, or the link of one.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use ally_base::os::{self, Held};
use nix::errno::Errno;

use super::{FileId, SocketFileId, dial, held, holders};
use crate::error::{Failure, Occupant};

/// The tries, if another file replaces the dead socket during the check.
const ATTEMPTS: u32 = 3;

/// Makes the path free for a daemon. Removes only a socket that refuses connections and that no process holds, or a symlink
/// that leads to such a socket or to nothing. The target of a symlink is never removed.
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

/// The file at the path itself, and the file that stat(2) finds through it.
#[derive(PartialEq, Eq)]
struct Found {
    here: SocketFileId,
    /// `None` for a symlink that leads to nothing.
    target: Option<SocketFileId>,
}

/// False if another file replaced the dead socket during the check.
fn try_remove_dead(path: &Path) -> Result<bool, Failure> {
    let held = |maker| Err(in_use(path, holders(path, maker).first().map_or(Occupant::Unknown, |pid| Occupant::Process(*pid))));
    let here = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(true),
        Err(error) => return Err(Failure::call("lstat", path, error)),
    };
    let is_link = here.is_symlink();
    let target = match if is_link { fs::metadata(path) } else { Ok(here.clone()) } {
        Ok(file) => file,
        Err(error) if leads_to_nothing(&error) => return remove(path, &Found { here: SocketFileId::of(&here), target: None }),
        // The target may be a living socket.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(in_use(path, cannot_connect(Errno::EACCES))),
        Err(error) => return Err(Failure::call("stat", path, error)),
    };
    if !target.file_type().is_socket() {
        return Err(in_use(path, Occupant::NotASocket));
    }
    let found = Found { here: SocketFileId::of(&here), target: Some(SocketFileId::of(&target)) };
    match dial(path) {
        Ok(client) => held(os::peer_pid(&client).ok()),
        // If the target of a link vanished, the link is still there.
        Err(Errno::ENOENT) => Ok(!is_link),
        // EAGAIN: the listener's queue is full. EPROTOTYPE: a datagram socket is bound.
        Err(Errno::EAGAIN | Errno::EPROTOTYPE) => held(None),
        // A socket that is bound but not listening gives ECONNREFUSED too. EACCES and EPERM say nothing about the socket.
        Err(error @ (Errno::ECONNREFUSED | Errno::EACCES | Errno::EPERM)) => match os::is_held(path) {
            Ok(Held::Yes) => held(None),
            Ok(_) if error != Errno::ECONNREFUSED => Err(in_use(path, cannot_connect(error))),
            Ok(Held::Unknown) => {
                let reason = "may be in use by a process that bound it under another name".to_owned();
                Err(in_use(path, Occupant::Unjudged { reason }))
            }
            // The answer of the kernel counts only if the socket did not begin to listen meanwhile.
            Ok(Held::No) if dial(path).err() == Some(Errno::ECONNREFUSED) => remove(path, &found),
            Ok(Held::No) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(!is_link),
            Err(error) => Err(Failure::at(path, error)),
        },
        Err(error) => Err(Failure::call("connect", path, error)),
    }
}

/// Whether stat(2) of a symlink failed because the symlink leads to no file.
fn leads_to_nothing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

fn cannot_connect(error: Errno) -> Occupant {
    Occupant::Unjudged { reason: format!("can't be connected to ({error:?})") }
}

fn remove(path: &Path, checked: &Found) -> Result<bool, Failure> {
    // Another process may have bound a new socket since the check.
    let here = fs::symlink_metadata(path).ok().map(|file| SocketFileId::of(&file));
    let now = here.map(|here| Found { here, target: SocketFileId::at(path) });
    if now.as_ref() != Some(checked) {
        return Ok(false);
    }
    // A socket that a killed owner held has a second name.
    let second = held::held_name(path);
    let is_second = FileId::find_here(path).is_ok_and(|here| FileId::find_here(&second).is_ok_and(|second| second == here));
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::call("unlink", path, error)),
        Ok(()) | Err(_) => {}
    }
    if is_second {
        fs::remove_file(&second).map_err(|error| Failure::call("unlink", &second, error))?;
    }
    Ok(true)
}
