//! The identity of a leader: of a new one, and of a recorded one.

use std::io;
use std::path::Path;

use ally_base::os::{self, Process};
use ally_base::record::Identity;

use crate::error::Failure;
use crate::model::Pid;

/// The identity of a leader from the report `Spawned`. `None` if the leader is gone by now. If its pid was reused, the new
/// process is no child of the keeper.
///
/// # Errors
/// `Io` if a file of /proc can't be read.
pub fn identify_leader(leader: Pid, keeper: Pid) -> Result<Option<Identity>, Failure> {
    let process = os::identify(leader).map_err(|error| scan_failure(&error))?;
    let Some(process) = process.filter(|process| !process.zombie && process.parent == keeper) else { return Ok(None) };
    // The POSIX session is the keeper's, although the leader may have left it by now. If the leader has left the group of the start
    // as well, that group has at most those processes that the leader forked before, in its first millisecond.
    Ok(Some(Identity { leader, start: process.start, boot: boot_id()?, session: keeper, group: process.group }))
}

/// # Errors
/// `Io` if a file of /proc can't be read.
pub fn is_of_this_boot(identity: &Identity) -> Result<bool, Failure> {
    Ok(boot_id()? == identity.boot)
}

/// The process of the leader, if the leader still lives.
///
/// # Errors
/// `Io` if a file of /proc can't be read.
pub fn find_leader(identity: &Identity) -> Result<Option<Process>, Failure> {
    if !is_of_this_boot(identity)? {
        return Ok(None);
    }
    let process = os::identify(identity.leader).map_err(|error| scan_failure(&error))?;
    Ok(process.filter(|process| process.start == identity.start && !process.zombie))
}

/// The failure for a failed scan of /proc (on macOS: of libproc).
pub fn scan_failure(error: &io::Error) -> Failure {
    Failure::at(Path::new("/proc"), copy(error))
}

/// `io::Error` does not implement Clone.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

fn boot_id() -> Result<String, Failure> {
    os::boot_id().map_err(|error| Failure::at(Path::new(os::BOOT_ID), error))
}
