//! Takes the lock of a plugin's name. If the tree of a dead owner is being stopped, waits for the lock.

use std::time::Duration;

use ally_base::os::{self, Process};
use ally_base::record::LockNote;
use ally_base::text::io_text;
use tokio::time::{Instant, sleep};

use super::leader::scan_failure;
use super::live_managers;
use super::{Folder, LockGuard};
use crate::error::Failure;
use crate::lifecycle::KILL_TIMEOUT;

/// flock(2) has no event for a release, so the lock is polled. Waits are rare: only after the owner's death.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The process name of a keeper.
const KEEPER: &str = "ally-keeper";

/// A note that was left by a reboot or a killed container stands until the next holder has written its own. So a note of another
/// boot or pid namespace counts only after so many reads.
const READS_OF_A_NOTE_ELSEWHERE: u32 = 5;

/// If a live owner holds the lock, fails at once. If a process in another container holds the lock, fails at once too: this
/// process can neither see nor signal it. If the keeper of a dead owner holds the lock, waits until the tree is gone, at
/// most for the grace period and `KILL_TIMEOUT`.
///
/// # Errors
/// `OwnedElsewhere`; `OwnedInContainer`; `StopFailed` if the keeper's tree does not end; `Io`.
pub async fn acquire(folder: &Folder, grace: Duration, own: &Process) -> Result<LockGuard, Failure> {
    let mut deadline = Instant::now() + grace + KILL_TIMEOUT;
    let mut signalled = None;
    let mut reads_elsewhere = 0;
    loop {
        let held = match folder.try_lock()? {
            Ok(lock) => return Ok(LockGuard::of(lock)),
            Err(held) => held,
        };
        reads_elsewhere = if held.is_elsewhere() { reads_elsewhere + 1 } else { 0 };
        match held.note {
            LockNote::Owner { pid, .. } | LockNote::Keeper { pid, .. } if reads_elsewhere > 0 => {
                if reads_elsewhere >= READS_OF_A_NOTE_ELSEWHERE {
                    return Err(Failure::OwnedInContainer { pid });
                }
            }
            LockNote::Owner { pid, start, manager } if is_live_owner(pid, start, manager, own) => {
                return Err(Failure::OwnedElsewhere { owner: Some(pid) });
            }
            LockNote::Keeper { pid, start, grace_ms } if signalled != Some(pid) => {
                // If the keeper keeps the tree (`onOwnerDeath: 'keep'`), SIGTERM makes it end the tree. Otherwise it is
                // ending the tree already. A note can be forged, so the process must be a keeper and hold this lock.
                let keeper = os::look_up(pid).filter(|process| process.start == start && os::holds(pid, KEEPER, &held.file));
                if let Some(keeper) = keeper {
                    if os::descends_from(own.pid, pid).map_err(|error| scan_failure(&error))? {
                        // This process is part of the tree, so the keeper would end it as well.
                        return Err(Failure::OwnedElsewhere { owner: Some(pid) });
                    }
                    signalled = Some(pid);
                    deadline = Instant::now() + Duration::from_millis(grace_ms) + KILL_TIMEOUT;
                    os::signal(&keeper, libc::SIGTERM).map_err(|error| Failure::Internal { problem: io_text(&error) })?;
                }
            }
            LockNote::Nobody if held.locker.is_some_and(|pid| pid != own.pid && !os::is_ending(pid)) => {
                return Err(Failure::OwnedElsewhere { owner: held.locker });
            }
            LockNote::Owner { .. } | LockNote::Keeper { .. } | LockNote::Nobody => {}
        }
        if Instant::now() > deadline {
            return Err(match signalled {
                Some(keeper) => Failure::StopFailed { survivors: os::descendants(keeper).seen.iter().map(|process| process.pid).collect() },
                None => Failure::OwnedElsewhere { owner: None },
            });
        }
        sleep(RETRY_INTERVAL).await;
    }
}

fn is_live_owner(pid: i32, start: u64, manager: u64, own: &Process) -> bool {
    if (pid, start) == (own.pid, own.start) {
        return live_managers::is_live(manager);
    }
    os::may_live(pid, start) && !os::is_ending(pid)
}
