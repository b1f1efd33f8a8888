//! The processes that hold a socket file.

use std::fs;
use std::io;
use std::path::Path;

use super::socket_info::sockets_of;
use super::tree::all_pids;
use crate::os::Held;

/// Whether a process holds a socket that is bound to this file, listening or not. A symlink counts as its target. Sockets of
/// other users are not visible.
///
/// # Errors
/// Errors of stat(2) and of the scan.
pub fn is_held(path: &Path) -> io::Result<Held> {
    Ok(if holding_pids(path)?.is_empty() { Held::No } else { Held::Yes })
}

/// The processes that hold a socket bound to this file, as far as this user may read their descriptors. The scan reads the
/// descriptors of all processes: use it only if a socket is held and no peer pid is known.
pub fn holders(path: &Path) -> Vec<i32> {
    holding_pids(path).unwrap_or_default()
}

pub fn holding_pids(path: &Path) -> io::Result<Vec<i32>> {
    let file = fs::metadata(path)?;
    let mut pids = all_pids()?;
    pids.retain(|pid| sockets_of(*pid).iter().any(|socket| socket.is_bound_to(*pid, path, &file)));
    Ok(pids)
}

/// The process that locked a file with flock(2). macOS does not tell.
pub const fn flock_holder(_file: &fs::File) -> Option<i32> {
    None
}

/// Whether a file is locked with flock(2). macOS does not tell.
pub const fn is_flocked(_file: &fs::File) -> Option<bool> {
    None
}
