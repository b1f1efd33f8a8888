//! The end of the trees that a dead owner left, for somebody who does not want the name.

use std::mem;
use std::path::Path;
use std::time::Duration;

use ally_base::os;
use ally_base::record::LockNote;
use tokio::time::{Instant, sleep};

use super::Folder;
use super::acquire::{RETRY_INTERVAL, WAKE_DELAY, wake_keepers};
use crate::error::Failure;
use crate::lifecycle::KILL_TIMEOUT;
use crate::model::Pid;

/// Waits until the name is free, or has another owner: that one has waited for the trees. `grace`: that of the daemon, as far as it
/// is known; the keeper's note has it as well.
///
/// # Errors
/// `StopFailed` if a tree does not end; `Io`.
pub async fn await_tree_end(envs_dir: &Path, plugin: &str, owner: Pid, grace: Duration) -> Result<(), Failure> {
    if std::fs::symlink_metadata(envs_dir.join(plugin)).is_err() {
        return Ok(());
    }
    let folder = Folder::open(envs_dir, plugin)?;
    let begun = Instant::now();
    let mut deadline = begun + grace + KILL_TIMEOUT;
    let (mut seen, mut woken) = (Vec::new(), false);
    loop {
        let held = match folder.try_lock()? {
            Ok(lock) => return lock.release().map_err(|error| Failure::call("flock", folder.path(), error)),
            Err(held) => held,
        };
        if matches!(held.note, LockNote::Owner { pid, .. } if pid != owner) {
            return Ok(());
        }
        for note in &held.keepers {
            let LockNote::Keeper { pid, grace_ms, .. } = *note else { continue };
            // A note can be forged.
            if !seen.contains(&pid) && folder.is_locked_by(pid, &held.file) {
                seen.push(pid);
                deadline = deadline.max(Instant::now() + Duration::from_millis(grace_ms) + KILL_TIMEOUT);
            }
        }
        if begun.elapsed() > WAKE_DELAY && !mem::replace(&mut woken, true) {
            wake_keepers(&folder, &held.file)?;
        }
        if Instant::now() > deadline {
            let trees = seen.iter().flat_map(|keeper| os::descendants(*keeper).seen);
            return Err(Failure::StopFailed { survivors: trees.map(|process| process.pid).collect() });
        }
        sleep(RETRY_INTERVAL).await;
    }
}
