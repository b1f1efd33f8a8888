//! The owner of a folder that took the place of a plugin's folder (`rm -rf`, then mkdir): the new folder has a lock of its own.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;

use ally_base::record::{LOCK_FILE, LockNote, READ_MAX};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::Held;
use super::acquire::is_live_owner;
use crate::error::Failure;
use crate::model::Pid;

/// The failure of a start in this folder, if a live owner holds its lock. Makes and takes nothing. `own`: pid and start time of this
/// process. If a file can't be read, the start finds out the reason.
pub fn owner_of(folder: &Path, own: (Pid, u64)) -> Option<Failure> {
    let held = look_at_lock(folder)?;
    match (&held.note, held.elsewhere().ok()?) {
        (LockNote::Owner { pid, .. }, Some(place)) => Some(Failure::OwnedOutside { pid: *pid, place }),
        (LockNote::Owner { pid, start, manager }, None) if is_live_owner(*pid, *start, *manager, own) => {
            Some(Failure::OwnedElsewhere { owner: Some(*pid) })
        }
        (LockNote::Owner { .. } | LockNote::Keeper { .. } | LockNote::Nobody, _) => None,
    }
}

fn look_at_lock(folder: &Path) -> Option<Held> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let folder = open(folder, flags | OFlag::O_DIRECTORY, Mode::empty()).ok()?;
    let mut file = File::from(openat(&folder, LOCK_FILE, flags, Mode::empty()).ok()?);
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            Read::by_ref(&mut file).take(READ_MAX).read_to_string(&mut text).ok()?;
            Some(Held::of(file, &text))
        }
        // The drop of the file releases the lock.
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}
