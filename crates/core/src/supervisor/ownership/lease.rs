//! The lease of a plugin's name, and the preparation that obtains it: folder, lock, orphans, socket path.

use std::path::Path;
use std::sync::Arc;

use ally_base::os;
use ally_base::record::{Identity, LOCK_FILE, LockNote};
use ally_base::text::printable;

use super::acquire::acquire;
use super::leader::check_identifiable;
use super::{Folder, Lock, live_managers, orphans};
use crate::config::ProcessConfig;
use crate::error::Failure;
use crate::supervisor::report::{Reporter, log};
use crate::supervisor::socket;

/// The right to a plugin's name: the folder and the lock.
pub struct Lease {
    pub folder: Folder,
    pub lock: Arc<Lock>,
    /// What this owner writes into the lock file.
    note: LockNote,
    /// The leader that the record names, if this owner has written one.
    recorded: Option<Identity>,
}

impl Lease {
    /// The preparation before the first spawn.
    ///
    /// # Errors
    /// `Io`, `OwnedElsewhere`, `StopFailed` for an orphan that can't be killed, `SocketInUse`.
    pub async fn prepare(envs_dir: &Path, config: &ProcessConfig, reporter: &Reporter) -> Result<Self, Failure> {
        os::must_be_visible().map_err(|error| Failure::at(Path::new("/proc"), error))?;
        check_identifiable()?;
        let folder = Folder::open(envs_dir, &config.plugin_name)?;
        log_modes(&folder, envs_dir, reporter);
        folder.check_places()?;
        let io_failure = |error: std::io::Error| Failure::at(&folder.join(LOCK_FILE), error);
        let own = os::identify(os::own_pid()).map_err(io_failure)?.ok_or_else(|| io_failure(std::io::ErrorKind::NotFound.into()))?;
        let lock = acquire(&folder, config.shutdown_grace_period, &own, reporter).await?;
        let note = LockNote::Owner { pid: own.pid, start: own.start, manager: reporter.manager };
        lock.note(&note).map_err(io_failure)?;
        orphans::stop(&folder, config, reporter).await?;
        socket::remove_dead(&config.socket_path)?;
        Ok(Self { lock: lock.keep(), folder, note, recorded: None })
    }

    /// Whether the name is still this owner's: the folder and the lock file are where they were.
    pub fn is_in_place(&self) -> bool {
        self.folder.is_in_place() && self.folder.has_lock_file(self.lock.as_file())
    }

    /// If the folder was cleared, locks a new lock file: the folder itself is locked all the time, so no other owner was let in.
    /// False if the folder was replaced, or if another process holds the new file.
    pub fn retake_lock(&mut self) -> bool {
        if !self.folder.is_in_place() {
            return false;
        }
        let Ok(Ok(file)) = self.folder.try_lock_file() else { return false };
        let lock = self.lock.with_file(file);
        let taken = self.folder.has_lock_file(lock.as_file()) && lock.note(&self.note).is_ok();
        if taken {
            self.lock = Arc::new(lock);
        }
        taken
    }

    /// Writes the record.
    ///
    /// # Errors
    /// `Io`.
    pub fn record(&mut self, identity: &Identity) -> Result<(), Failure> {
        // First, because a failure may leave one of the two files.
        self.recorded = Some(identity.clone());
        self.folder.record(identity)
    }

    /// Removes the record, if it does not name the leader of another owner.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove_record(&self) -> Result<(), Failure> {
        self.recorded.as_ref().map_or(Ok(()), |identity| self.folder.remove_record_of(identity))
    }
}

fn log_modes(folder: &Folder, envs_dir: &Path, reporter: &Reporter) {
    let text = |path: &Path| printable(&path.display().to_string());
    if let Some(mode) = folder.envs_dir_open.filter(|_| live_managers::is_first_warning(reporter.manager)) {
        log!(
            reporter,
            warn,
            "others than its owner can write in envsDir {} (mode {mode:04o}), and can replace plugins' folders",
            text(envs_dir)
        );
    }
    if let Some(mode) = folder.closed_from {
        log!(reporter, info, "closed the plugin's folder {} (mode {mode:04o}) to other users", text(folder.path()));
    }
}
