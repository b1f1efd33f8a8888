//! What comes before the first spawn: the plugin's folder, its lock, what a dead owner left, and the
//! socket path.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use once_cell::sync::Lazy;
use tokio::time::{Instant, sleep};

use super::files::{Folder, Lock, LockNote, untold};
use super::{orphan, socket};
use crate::config::ProcessConfig;
use crate::error::{Failure, io_text};
use crate::lifecycle::KILL_PATIENCE;
use crate::os::{self, Process};

/// flock(2) has no event that tells of its release, and this wait is rare: the owner died a moment ago.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// What a keeper calls itself.
const KEEPER: &str = "ally-keeper";

/// The name is ours while this lives.
pub struct Lease {
    pub folder: Folder,
    pub lock: Arc<Lock>,
}

/// The managers of this process that live. One of a worker that was terminated doesn't, though its pid does.
static LIVE: Lazy<Mutex<HashSet<u64>>> = Lazy::new(Mutex::default);

pub fn enroll(manager: u64) {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).insert(manager);
}

pub fn dismiss(manager: u64) {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&manager);
}

/// # Errors
/// `Io`, `OwnedElsewhere`, `StopFailed` for an orphan that can't be killed, `SocketInUse`.
pub async fn prepare(envs_dir: &Path, config: &ProcessConfig, manager: u64) -> Result<Lease, Failure> {
    os::must_be_visible().map_err(|error| Failure::at(Path::new("/proc"), error))?;
    let folder = Folder::open(envs_dir, &config.plugin_name)?;
    folder.check_places()?;
    let told = |error: std::io::Error| Failure::at(&folder.join("daemon.lock"), error);
    let own = nix::unistd::getpid().as_raw();
    let own = os::identify(own).map_err(told)?.ok_or_else(|| told(std::io::ErrorKind::NotFound.into()))?;
    let lock = Taken(Some(obtain(&folder, config.shutdown_grace_period, &own).await?));
    lock.note(&LockNote::Owner { pid: own.pid, start: own.start, manager }).map_err(told)?;
    orphan::clear(&folder, config, manager).await?;
    socket::clear(&config.socket_path)?;
    Ok(Lease { folder, lock: Arc::new(lock.keep()?) })
}

/// A lock that is given up with whatever it was taken for: where that fails, or is called off.
struct Taken(Option<Lock>);

impl Taken {
    fn note(&self, note: &LockNote) -> std::io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |lock| lock.note(note))
    }

    fn keep(mut self) -> Result<Lock, Failure> {
        self.0.take().ok_or_else(|| Failure::Internal { problem: "a plugin's lock was kept twice".to_owned() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|lock| lock.release()) {
            tracing::debug!(target: super::TARGET, %error, "a plugin's lock could not be given up");
        }
    }
}

/// The lock of a live owner is not waited for; that of a dead one's keeper is, as long as its tree may take to stop.
async fn obtain(folder: &Folder, grace: Duration, own: &Process) -> Result<Lock, Failure> {
    let mut deadline = Instant::now() + grace + KILL_PATIENCE;
    let mut asked = None;
    loop {
        let held = match folder.try_lock()? {
            Ok(lock) => return Ok(lock),
            Err(held) => held,
        };
        match held.note {
            LockNote::Owner { pid, start, manager } if lives(pid, start, manager, own) => {
                return Err(Failure::OwnedElsewhere { owner: Some(pid) });
            }
            LockNote::Keeper { pid, start, grace_ms } if asked != Some(pid) => {
                // One that keeps its tree for a dead owner ends it now; one that is ending it anyway goes on.
                // Anybody can write a note: it must be a keeper, and one that has this very lock.
                let keeper = os::look_up(pid).filter(|process| process.start == start && os::holds(pid, KEEPER, &held.file));
                if let Some(keeper) = keeper {
                    if os::descends_from(own.pid, pid).map_err(|error| untold(&error))? {
                        // It would end us with its tree.
                        return Err(Failure::OwnedElsewhere { owner: Some(pid) });
                    }
                    asked = Some(pid);
                    deadline = Instant::now() + Duration::from_millis(grace_ms) + KILL_PATIENCE;
                    os::signal(&keeper, libc::SIGTERM).map_err(|error| Failure::Internal { problem: io_text(&error) })?;
                }
            }
            LockNote::Owner { .. } | LockNote::Keeper { .. } | LockNote::Nobody => {}
        }
        if Instant::now() > deadline {
            return Err(match asked {
                Some(keeper) => Failure::StopFailed { survivors: os::descendants(keeper).seen.iter().map(|process| process.pid).collect() },
                None => Failure::OwnedElsewhere { owner: None },
            });
        }
        sleep(TRY_AGAIN).await;
    }
}

fn lives(pid: i32, start: u64, manager: u64, own: &Process) -> bool {
    if (pid, start) == (own.pid, own.start) {
        return LIVE.lock().unwrap_or_else(PoisonError::into_inner).contains(&manager);
    }
    os::start_time(pid) == Some(start) && !os::is_ending(pid)
}
