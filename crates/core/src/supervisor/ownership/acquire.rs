//! Takes the lock of a plugin's name. If the tree of a dead owner is being stopped, waits for the lock.

use std::fs::File;
use std::mem;
use std::time::Duration;

use ally_base::os::{self, Process};
use ally_base::record::LockNote;
use ally_base::text::io_text;
use tokio::time::{Instant, sleep};

use super::leader::scan_failure;
use super::live_managers;
use super::{Folder, Held, LockGuard};
use crate::error::Failure;
use crate::lifecycle::KILL_TIMEOUT;
use crate::model::Pid;
use crate::supervisor::report::{Reporter, log};
use crate::supervisor::runtime::exit;

/// flock(2) has no event for a release, so the lock is polled. Waits are rare: only after the owner's death.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The time after which a keeper that still holds the lock of a dead owner gets SIGCONT.
pub(super) const WAKE_DELAY: Duration = Duration::from_secs(1);

/// A note that was left by a reboot or a killed container stands until the next holder has written its own. So a note of another
/// place counts only after so many reads.
const READS_OF_A_NOTE_ELSEWHERE: u32 = 5;

/// If a live owner holds the lock, fails at once. If a process in another container or on another machine holds the lock, fails at
/// once too: this process can neither see nor signal it. If the owner is dumping core, waits for the end of the dump. If the
/// keepers of a dead owner hold the lock (two, if it died during an upgrade), waits until their trees are gone, at most for the
/// longest grace period and `KILL_TIMEOUT`.
///
/// # Errors
/// `OwnedElsewhere`; `OwnedOutside`; `StopFailed` if the keeper's tree does not end; `Io`.
pub async fn acquire(folder: &Folder, grace: Duration, own: &Process, reporter: &Reporter) -> Result<LockGuard, Failure> {
    let mut deadline = Instant::now() + grace + KILL_TIMEOUT;
    let mut signalled = Vec::new();
    let (begun, mut woken) = (Instant::now(), false);
    let mut dumped = None;
    let mut reads_elsewhere = 0;
    loop {
        let held = match folder.try_lock()? {
            Ok(lock) => return Ok(LockGuard::of(lock)),
            Err(held) => held,
        };
        let elsewhere = held.elsewhere().map_err(|error| scan_failure(&error))?;
        reads_elsewhere = if elsewhere.is_some() { reads_elsewhere + 1 } else { 0 };
        if let Some(owner) = dumping_owner(&held).filter(|_| elsewhere.is_none()) {
            if dumped.replace(owner.pid) != Some(owner.pid) {
                log!(
                    reporter,
                    warn,
                    owner = owner.pid,
                    "the start waits until process {}, the owner, has written its core dump",
                    owner.pid
                );
            }
            await_exit(&owner).await;
            // The owner's descriptors are closed only now.
            deadline = Instant::now() + grace + KILL_TIMEOUT;
            continue;
        }
        match (&held.note, elsewhere) {
            (LockNote::Owner { pid, .. } | LockNote::Keeper { pid, .. }, Some(place)) => {
                if reads_elsewhere >= READS_OF_A_NOTE_ELSEWHERE {
                    return Err(Failure::OwnedOutside { pid: *pid, place });
                }
            }
            (LockNote::Owner { pid, start, manager }, None)
                if dumped != Some(*pid) && is_live_owner(*pid, *start, *manager, (own.pid, own.start)) =>
            {
                return Err(Failure::OwnedElsewhere { owner: Some(*pid) });
            }
            (LockNote::Keeper { .. }, None) => {
                let is_first = signalled.is_empty();
                if let Some(grace) = stop_keepers(folder, &held, own, &mut signalled)? {
                    let end = Instant::now() + grace + KILL_TIMEOUT;
                    deadline = if is_first { end } else { deadline.max(end) };
                }
            }
            (LockNote::Nobody, _) if held.locker.is_some_and(|pid| is_live_locker(pid, own, dumped)) => {
                return Err(Failure::OwnedElsewhere { owner: held.locker });
            }
            (LockNote::Owner { .. } | LockNote::Nobody, _) => {}
        }
        if begun.elapsed() > WAKE_DELAY && !mem::replace(&mut woken, true) {
            wake_keepers(folder, &held.file)?;
        }
        if Instant::now() > deadline {
            if signalled.is_empty() {
                return Err(Failure::OwnedElsewhere { owner: None });
            }
            let trees = signalled.iter().flat_map(|keeper| os::descendants(*keeper).seen);
            return Err(Failure::StopFailed { survivors: trees.map(|process| process.pid).collect() });
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Stops the keepers in the note that were not `signalled` before. If a keeper keeps its tree (`onOwnerDeath: 'keep'`), SIGTERM makes
/// it end the tree. Otherwise it is ending the tree already. Returns the longest grace period of those that were found.
///
/// # Errors
/// `OwnedElsewhere` if this process is part of such a tree, so that the keeper would end it as well; `Io`.
fn stop_keepers(folder: &Folder, held: &Held, own: &Process, signalled: &mut Vec<Pid>) -> Result<Option<Duration>, Failure> {
    let mut longest = None;
    for note in &held.keepers {
        let LockNote::Keeper { pid, start, grace_ms } = *note else { continue };
        if signalled.contains(&pid) {
            continue;
        }
        // A note can be forged, so the process must be a keeper and hold this lock.
        let keeper = os::look_up(pid).filter(|process| process.start == start && folder.is_locked_by(pid, &held.file));
        let Some(keeper) = keeper else { continue };
        if os::descends_from(own.pid, pid).map_err(|error| scan_failure(&error))? {
            return Err(Failure::OwnedElsewhere { owner: Some(pid) });
        }
        for signal in [libc::SIGTERM, libc::SIGCONT] {
            os::signal(&keeper, signal).map_err(|error| Failure::Internal { problem: io_text(&error) })?;
        }
        signalled.push(pid);
        longest = longest.max(Some(Duration::from_millis(grace_ms)));
    }
    Ok(longest)
}

/// A suspended keeper does not see its owner's death, and holds the lock. The record names the keeper of each generation.
pub(super) fn wake_keepers(folder: &Folder, lock: &File) -> Result<(), Failure> {
    let keepers = folder.read_identities()?.into_iter().filter_map(|identity| os::look_up(identity.keeper?));
    for keeper in keepers.filter(|keeper| folder.is_locked_by(keeper.pid, lock)) {
        os::signal(&keeper, libc::SIGCONT).map_err(|error| Failure::Internal { problem: io_text(&error) })?;
    }
    Ok(())
}

/// `own`: pid and start time of this process.
pub fn is_live_owner(pid: Pid, start: u64, manager: u64, own: (Pid, u64)) -> bool {
    if (pid, start) == own {
        return live_managers::is_live(manager);
    }
    os::may_live(pid, start) && !os::is_ending(pid)
}

fn is_live_locker(pid: Pid, own: &Process, dumped: Option<Pid>) -> bool {
    pid != own.pid && dumped != Some(pid) && !os::is_ending(pid)
}

/// The owner, if its core dump is being written: the owner is ending, however long that takes.
fn dumping_owner(held: &Held) -> Option<Process> {
    let (pid, start) = match held.note {
        LockNote::Owner { pid, start, .. } => (pid, Some(start)),
        LockNote::Nobody => (held.locker?, None),
        LockNote::Keeper { .. } => return None,
    };
    os::look_up(pid).filter(|process| start.is_none_or(|start| start == process.start) && os::is_dumping_core(pid))
}

/// Waits until the process has exited. Without an event for that: for one interval.
async fn await_exit(process: &Process) {
    // An error of pidfd_open(2): the caller polls.
    if let Ok(Some(handle)) = os::open(process)
        && exit(&handle).await.is_some()
    {
        return;
    }
    sleep(RETRY_INTERVAL).await;
}
