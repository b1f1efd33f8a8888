//! The end of a daemon whose owner lives, for a user who has no other way to it. The owner is not asked, because it may be suspended:
//! SIGTERM makes the keeper end its tree, and the keeper tells the owner.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ally_base::os::{self, Process};
use ally_base::record::{Identity, LOCK_FILE};
use ally_base::text::io_text;
use tokio::time::{Instant, sleep, timeout};

use super::leader::scan_failure;
use super::{Folder, leftovers, observe};
use crate::error::Failure;
use crate::lifecycle::KILL_TIMEOUT;
use crate::supervisor::runtime::exit;

/// Beside the grace period and the time for SIGKILL: the keeper is scheduled, and removes the record.
const MARGIN: Duration = Duration::from_secs(1);

/// Without a handle of the keeper.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Ends the trees of the plugin: of the generation that serves, then of another one that its owner has not ended by then.
///
/// # Errors
/// `NotFound` without a folder of the plugin; `NotEnded`: no keeper can be asked; `StopFailed`: the tree did not end in time; `Io`.
pub async fn end(envs_dir: &Path, plugin: &str) -> Result<(), Failure> {
    let folder = leftovers::open(envs_dir, plugin)?;
    let lock = open_lock(&folder)?;
    let identities = folder.read_identities()?;
    let keepers: Vec<(&Identity, Process)> =
        identities.iter().filter_map(|identity| Some((identity, keeper_of(&folder, &lock, identity)?))).collect();
    if keepers.is_empty() {
        return Err(not_ended("it has no process: its owner prepares it, or waits for a restart or a connection"));
    }
    for (identity, keeper) in &keepers {
        let Some(grace) = identity.grace_ms else {
            return Err(not_ended("its keeper is of an older version, and ends its tree for its owner only: end the owner"));
        };
        if os::descends_from(os::own_pid(), keeper.pid).map_err(|error| scan_failure(&error))? {
            return Err(not_ended("this process belongs to it"));
        }
        end_tree(keeper, Duration::from_millis(grace)).await?;
    }
    Ok(())
}

fn not_ended(problem: &str) -> Failure {
    Failure::NotEnded { problem: problem.to_owned() }
}

fn open_lock(folder: &Folder) -> Result<File, Failure> {
    let failed = |error| Failure::call("open", &folder.join(LOCK_FILE), error);
    let copy = folder.try_clone().map_err(|error| Failure::at(folder.path(), error))?;
    observe::open_lock(&copy).map_err(failed)?.map(|(file, _)| file).ok_or_else(|| not_ended("it has no lock file"))
}

/// A record can be forged, so the process must be a keeper and hold this lock.
fn keeper_of(folder: &Folder, lock: &File, identity: &Identity) -> Option<Process> {
    os::look_up(identity.keeper?).filter(|keeper| !keeper.zombie && folder.is_locked_by(keeper.pid, lock))
}

/// A keeper exits when its tree is gone.
async fn end_tree(keeper: &Process, grace: Duration) -> Result<(), Failure> {
    let internal = |error: std::io::Error| Failure::Internal { problem: io_text(&error) };
    let handle = os::open(keeper).map_err(internal)?;
    for signal in [libc::SIGTERM, libc::SIGCONT] {
        os::signal(keeper, signal).map_err(internal)?;
    }
    let end = Instant::now() + grace + KILL_TIMEOUT + MARGIN;
    if let Some(handle) = &handle
        && timeout(end - Instant::now(), exit(handle)).await.is_ok_and(|exited| exited.is_some())
    {
        return Ok(());
    }
    while os::look_up(keeper.pid).is_some_and(|process| process.start == keeper.start && !process.zombie) {
        if Instant::now() >= end {
            let survivors = os::descendants(keeper.pid).seen.iter().map(|process| process.pid).collect();
            return Err(Failure::StopFailed { survivors });
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
