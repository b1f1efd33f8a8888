//! The plugin's lock after the owner's death. Another owner that finds the name taken must find this keeper in the note, also if
//! the plugin's folder was cleared meanwhile: the folder itself is locked as well, so the name is still this keeper's.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ally_base::os::{self, FolderWatcher};
use ally_base::record::{LOCK_FILE, LockNote};
use ally_base::wire::OwnerDeath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat};

use crate::sys;

/// A start that finds the name taken may hold the lock of a new file for a moment.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(1);
/// The pause between the removal of the file and its restoration: whoever clears the folder may go on to remove it.
const RESTORE_PAUSE: Duration = Duration::from_millis(500);

pub struct KeeperLock {
    file: File,
    /// Whether this keeper holds the lock of the file. If the folder was cleared, the keeper of another generation may hold it.
    is_held: bool,
    /// The plugin's folder, which contains the record and the lock file. Its flock(2) is the other half of the lock.
    pub folder: OwnedFd,
    /// Watches the names of the file, if the keeper keeps its tree after the owner's death.
    watcher: Option<FolderWatcher>,
    /// When to make the file anew, if it was removed.
    restore_at: Option<Instant>,
}

impl KeeperLock {
    pub fn new(file: OwnedFd, folder: OwnedFd) -> Self {
        Self { file: file.into(), is_held: true, folder, watcher: None, restore_at: None }
    }

    /// The owner is dead: writes this keeper into the note. With `onOwnerDeath: 'keep'` the tree may live for long, and the file is
    /// watched.
    pub fn take_over(&mut self, grace: Duration, owner_death: OwnerDeath) {
        if owner_death == OwnerDeath::Keep {
            // EMFILE: the user's inotify instances are used up. The file is then put back only now.
            self.watcher = FolderWatcher::new().ok();
        }
        self.write_note(grace);
    }

    /// Readable after a change of the file's names.
    pub fn watcher_fd(&self) -> Option<RawFd> {
        self.watcher.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub fn on_changed(&mut self) {
        while let Some(Ok(Some(_))) = self.watcher.as_ref().map(FolderWatcher::changed) {}
        if !self.has_name() {
            self.restore_at.get_or_insert_with(|| Instant::now() + RESTORE_PAUSE);
        }
    }

    /// The time until [`Self::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.restore_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub fn on_deadline(&mut self, grace: Duration) {
        if self.restore_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.write_note(grace);
        }
    }

    /// If the folder was cleared, makes `daemon.lock` anew. Then writes the note, beside that of the keeper of another generation.
    fn write_note(&mut self, grace: Duration) {
        let mut taken = None;
        for _ in 0..ATTEMPTS {
            if let Some(watcher) = &self.watcher {
                // Before the check, so that a later change is an event.
                sys::ignore(watcher.add_file(&self.file));
            }
            if self.has_name() {
                break;
            }
            match self.open_anew() {
                Ok((file, true)) => (self.file, self.is_held) = (file, true),
                Ok((file, false)) => {
                    taken = Some(file);
                    std::thread::sleep(PAUSE);
                }
                // ENOENT: the folder itself was removed.
                Err(_) => break,
            }
        }
        if let Some(file) = taken.filter(|_| !self.has_name()) {
            // The keeper of another generation has made it. The lock of the folder is what both hold.
            (self.file, self.is_held) = (file, false);
        }
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let note = LockNote::Keeper { pid: os::own_pid(), start: os::start_time(os::own_pid()).unwrap_or_default(), grace_ms };
        sys::ignore(note.write_beside_others(&self.file, self.is_held));
    }

    /// Whether `daemon.lock` is the file of this lock.
    fn has_name(&self) -> bool {
        if !os::has_name(&self.folder, Path::new(LOCK_FILE)) {
            return false;
        }
        let (Ok(held), Ok(there)) = (fstat(&self.file), fstatat(&self.folder, LOCK_FILE, AtFlags::AT_SYMLINK_NOFOLLOW)) else {
            return false;
        };
        (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
    }

    /// The file, and whether it is locked now. If not, another process holds its lock.
    fn open_anew(&self) -> io::Result<(File, bool)> {
        const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = File::from(openat(&self.folder, LOCK_FILE, flags, PRIVATE)?);
        let found = file.metadata()?;
        if !found.is_file() || std::os::unix::fs::MetadataExt::nlink(&found) > 1 {
            return Err(Errno::EEXIST.into());
        }
        // The umask may have removed permissions.
        fchmod(&file, PRIVATE)?;
        match file.try_lock() {
            Ok(()) => Ok((file, true)),
            Err(TryLockError::WouldBlock) => Ok((file, false)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
