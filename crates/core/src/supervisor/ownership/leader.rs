//! The identity of a leader: of a new one, and of a recorded one.

use std::io;
use std::path::Path;
use std::time::Duration;

use ally_base::os::{self, Process};
use ally_base::record::{DAEMON_ID, Identity, SameBoot, VERSION, compare_boots, has_boot_id, own_place};
use ally_base::text::io_text;

use crate::error::{Failure, FileProblem};
use crate::model::Pid;

/// What the keeper reports of a spawn: [`KeeperReport::Spawned`].
///
/// [`KeeperReport::Spawned`]: ally_base::wire::KeeperReport::Spawned
#[derive(Debug, Clone, Copy)]
pub struct SpawnReport {
    pub leader: Pid,
    pub leader_start: u64,
    pub keeper: Pid,
    pub keeper_start: u64,
    pub group: i32,
}

/// The identity of a leader by its keeper's word. The leader may be gone by now: what it left is found by this.
///
/// # Errors
/// `Io` if a file of /proc can't be read.
pub fn reported_leader(spawned: SpawnReport, token: String, grace: Duration) -> Result<Identity, Failure> {
    let SpawnReport { leader, leader_start, keeper, keeper_start, group } = spawned;
    Ok(Identity {
        leader,
        // The keeper is older. Its start time takes the place of a start time that the keeper could not read.
        start: leader_start.max(keeper_start),
        boot: boot_id()?,
        // The POSIX session of the start, although the leader may have left it by now.
        session: keeper,
        group,
        token: Some(token),
        keeper: Some(keeper),
        version: Some(VERSION.to_owned()),
        grace_ms: Some(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// The same identity, with the start time that /proc shows. `None` if the leader is gone by now.
///
/// # Errors
/// `Io` if a file of /proc can't be read.
pub fn living_leader(reported: &Identity) -> Result<Option<Identity>, Failure> {
    let process = os::identify(reported.leader).map_err(|error| scan_failure(&error))?;
    // If the pid was reused, the new process is neither as old as the leader nor a child of the keeper.
    let is_leader = |process: &Process| !process.zombie && (process.start == reported.start || Some(process.parent) == reported.keeper);
    Ok(process.filter(is_leader).map(|process| Identity { start: process.start, ..reported.clone() }))
}

/// # Errors
/// `Io` if a file of /proc can't be read.
pub fn same_boot(identity: &Identity) -> Result<SameBoot, Failure> {
    Ok(compare_boots(&identity.boot, &boot_id()?))
}

/// The process of the leader, if the leader still lives. Without an id of the boot, a process counts only if it began with the
/// token of the attempt.
///
/// # Errors
/// `Io` if a file of /proc can't be read.
pub fn find_leader(identity: &Identity) -> Result<Option<Process>, Failure> {
    let same_boot = same_boot(identity)?;
    if same_boot == SameBoot::No {
        return Ok(None);
    }
    let process = os::identify(identity.leader).map_err(|error| scan_failure(&error))?;
    let Some(process) = process.filter(|process| process.start == identity.start && !process.zombie) else { return Ok(None) };
    let proven = same_boot == SameBoot::Yes || has_token(&process, identity)?;
    Ok(proven.then_some(process))
}

/// Whether the process began with the token of the attempt, and so descends from its leader. False without a token.
///
/// # Errors
/// `Io` if a file of /proc can't be read.
pub fn has_token(process: &Process, identity: &Identity) -> Result<bool, Failure> {
    let Some(token) = &identity.token else { return Ok(false) };
    os::began_with(process.pid, DAEMON_ID, token).map_err(|error| scan_failure(&error))
}

/// Refuses a start whose leader could not be identified later, so that no process is made in vain.
///
/// # Errors
/// `Io`: /proc shows neither the id of the boot nor environments.
pub fn check_identifiable() -> Result<(), Failure> {
    let place = own_place().map_err(|error| Failure::at(Path::new(os::BOOT_ID), error))?;
    if has_boot_id(place) {
        return Ok(());
    }
    os::check_environment_is_readable().map_err(|error| {
        let text =
            format!("{} (/proc has no boot id, as with the mount option subset=pid, so environments must be readable)", io_text(&error));
        let problem = FileProblem::Found { text, errno: error.raw_os_error() };
        Failure::Io { path: os::ENVIRONMENT.to_owned(), problem }
    })
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
