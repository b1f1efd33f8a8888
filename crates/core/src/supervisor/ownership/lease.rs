//! The lease of a plugin's name, and the preparation that obtains it: folder, lock, orphans, socket path.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ally_base::os;
use ally_base::record::{Identity, LOCK_FILE, LockNote};
use ally_base::text::printable;
use tokio::time::{Instant, sleep_until};

use super::acquire::acquire;
use super::leader::check_identifiable;
use super::successor::owner_of;
use super::{Folder, Lock, live_managers, orphans};
use crate::config::ProcessConfig;
use crate::error::Failure;
use crate::supervisor::report::{Reporter, log};
use crate::supervisor::runtime::FolderChanges;
use crate::supervisor::socket;

/// The right to a plugin's name: the folder and the lock.
pub struct Lease {
    pub folder: Folder,
    pub lock: Arc<Lock>,
    /// What this owner writes into the lock file.
    note: LockNote,
    /// The leaders that this owner has recorded, and not forgotten. The serving generation comes first.
    recorded: Vec<Identity>,
    /// The log file that `daemon.log-path` names.
    log_path: LogPath,
    /// The changes of the lock file's names.
    watch: Option<FolderChanges>,
    /// When to look for the lock file, if it is missing.
    check_at: Option<Instant>,
    /// How often in a row another process held the new lock file.
    busy: u32,
}

/// The content of `daemon.log-path`.
#[derive(Debug, PartialEq, Eq)]
enum LogPath {
    /// This owner has neither written nor removed the file.
    Unknown,
    Absent,
    At(PathBuf),
}

/// The state of the lock file, whose lock is one half of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFile {
    Kept,
    /// It was missing, and was made anew.
    Restored,
    /// It is missing, and could not be made anew yet.
    Busy,
    /// The folder was replaced, or another owner holds the file.
    Lost,
}

/// The pause between the removal of the lock file and its restoration.
const RESTORE_PAUSE: Duration = Duration::from_millis(500);
/// The pause between two tries to lock a new lock file that another process holds.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// A start holds the file for microseconds. If another process holds it for longer, it is another owner of an older version, which
/// locks no folder.
const BUSY_MAX: u32 = 100;

impl Lease {
    /// The preparation before the first spawn. `is_held`: this owner holds the socket already.
    ///
    /// # Errors
    /// `Io`, `OwnedElsewhere`, `StopFailed` for an orphan that can't be killed, `SocketInUse`.
    pub async fn prepare(envs_dir: &Path, config: &ProcessConfig, is_held: bool, reporter: &Reporter) -> Result<Self, Failure> {
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
        socket::make_free(config, is_held)?;
        socket::remove_other_names(config);
        Ok(Self { lock: lock.keep(), folder, note, recorded: Vec::new(), log_path: LogPath::Unknown, watch: None, check_at: None, busy: 0 })
    }

    /// Resolves when [`Self::is_check_due`] must be asked.
    pub async fn lock_file_changed(lease: Option<&Self>) {
        match lease {
            Some(Self { check_at: Some(at), .. }) => sleep_until(*at).await,
            Some(Self { watch: Some(watch), .. }) => watch.next().await,
            Some(Self { watch: None, .. }) | None => pending().await,
        }
    }

    /// Whether [`Self::keep_lock_file`] must follow. After a removal of the file the check is put off: whoever clears the folder may
    /// go on to remove the folder, and rmdir(2) would fail for a new file.
    pub fn is_check_due(&mut self) -> bool {
        if self.check_at.is_none() && !self.folder.has_lock_file(self.lock.as_file()) {
            self.check_at = Some(Instant::now() + RESTORE_PAUSE);
        }
        self.check_at.is_some_and(|at| at <= Instant::now())
    }

    /// If the folder was cleared, locks a new lock file. The folder itself is locked all the time, so no other owner was let in.
    pub fn keep_lock_file(&mut self) -> LockFile {
        let found = self.find_lock_file();
        self.busy = if found == LockFile::Busy { self.busy + 1 } else { 0 };
        self.check_at = (found == LockFile::Busy).then(|| Instant::now() + BUSY_PAUSE);
        found
    }

    fn find_lock_file(&mut self) -> LockFile {
        if !self.folder.is_in_place() {
            return self.lost();
        }
        if self.folder.has_lock_file(self.lock.as_file()) {
            return LockFile::Kept;
        }
        match self.folder.try_lock_file() {
            Ok(Ok(file)) => {
                let lock = self.lock.with_file(file);
                if !self.folder.has_lock_file(lock.as_file()) || lock.note(&self.note).is_err() {
                    return self.lost();
                }
                self.lock = Arc::new(lock);
                self.watch_lock_file();
                LockFile::Restored
            }
            // A start of another owner holds the new file for a moment, and is refused by the lock of the folder. It writes no note.
            Ok(Err(held)) if self.lock.has_folder() && held.note == LockNote::Nobody && self.busy < BUSY_MAX => LockFile::Busy,
            Ok(Err(_)) | Err(_) => self.lost(),
        }
    }

    fn lost(&mut self) -> LockFile {
        // Nothing that happens to the file can bring the name back.
        self.watch = None;
        LockFile::Lost
    }

    fn watch_lock_file(&mut self) {
        // Without inotify (EMFILE, ENOSPC) the file is put back at the next restart.
        self.watch = FolderChanges::of_file(self.lock.as_file()).ok();
        // A removal before the watch is no event.
        if self.watch.is_some() && !self.lock.has_name() {
            self.check_at = Some(Instant::now() + RESTORE_PAUSE);
        }
    }

    /// If the plugin's folder was replaced, and another owner has started the plugin there: the failure of a restart.
    pub fn name_lost(&self) -> Option<Failure> {
        let LockNote::Owner { pid, start, .. } = self.note else { return None };
        if self.folder.is_in_place() { None } else { owner_of(self.folder.path(), (pid, start)) }
    }

    /// Records the serving generation, before its pid is published.
    ///
    /// # Errors
    /// `Io`.
    pub fn record(&mut self, identity: &Identity) -> Result<(), Failure> {
        let known = self.recorded.clone();
        // First, because a failure may leave one of the two files.
        self.recorded.retain(|recorded| recorded != identity);
        self.recorded.insert(0, identity.clone());
        if self.watch.is_none() {
            // Not before: a start that makes no process needs no inotify.
            self.watch_lock_file();
        }
        self.folder.record_serving(identity, &known)
    }

    /// Records a generation beside the serving one, before its pid is published: if the owner dies, the next start finds both.
    /// `daemon.pid` stays.
    ///
    /// # Errors
    /// `Io`.
    pub fn record_successor(&mut self, identity: &Identity) -> Result<(), Failure> {
        let known = self.recorded.clone();
        self.recorded.push(identity.clone());
        self.folder.record_successor(identity, &known)
    }

    /// The recorded generation `identity` serves from here on: `daemon.pid` names its leader, and `daemon.id` names it first. The
    /// change of `daemon.pid` is the last step. After a failure the record is what it was.
    ///
    /// # Errors
    /// `Io`.
    pub fn change_over(&mut self, identity: &Identity) -> Result<(), Failure> {
        self.folder.record_serving(identity, &self.recorded)?;
        self.recorded.retain(|recorded| recorded != identity);
        self.recorded.insert(0, identity.clone());
        Ok(())
    }

    /// The serving generation writes this log file, or none.
    ///
    /// # Errors
    /// `Io`. A further call tries again.
    pub fn put_log_path(&mut self, path: Option<&Path>) -> Result<(), Failure> {
        let wanted = path.map_or(LogPath::Absent, |path| LogPath::At(path.to_owned()));
        match &wanted {
            known if *known == self.log_path => return Ok(()),
            LogPath::At(path) => self.folder.put_log_path(path)?,
            LogPath::Absent | LogPath::Unknown => self.folder.remove_log_path()?,
        }
        self.log_path = wanted;
        Ok(())
    }

    /// Removes one generation from the record, when its tree is gone. The keeper has done so before, unless it was killed.
    ///
    /// # Errors
    /// `Io`. A further call tries again.
    pub fn forget(&mut self, identity: &Identity) -> Result<(), Failure> {
        self.folder.forget(identity)?;
        self.recorded.retain(|recorded| recorded != identity);
        Ok(())
    }
}

/// A lease while the rest of a preparation goes on. A drop releases the name.
pub struct LeaseGuard(Option<Lease>);

impl LeaseGuard {
    pub const fn of(lease: Option<Lease>) -> Self {
        Self(lease)
    }

    pub fn keep(mut self) -> Option<Lease> {
        self.0.take()
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|lease| lease.lock.release()) {
            tracing::debug!(target: crate::supervisor::TARGET, %error, "a plugin's lock could not be released");
        }
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
