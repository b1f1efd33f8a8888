//! The lock of a plugin's name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ally_base::record::{Elsewhere, LockNote, elsewhere, own_place};

use crate::model::Pid;

/// A lock that another owner or a keeper holds.
#[derive(Debug)]
pub struct Held {
    pub note: LockNote,
    /// The keepers in the note: two, if the owner died during an upgrade.
    pub keepers: Vec<LockNote>,
    /// The place in which the note's pid counts, if the note has it.
    pub place: Option<String>,
    /// The process that locked the folder, if the lock file was replaced and has no note.
    pub locker: Option<Pid>,
    pub file: File,
}

impl Held {
    /// `text`: the text of the lock file.
    pub fn of(file: File, text: &str) -> Self {
        let place = LockNote::place(text).map(str::to_owned);
        Self { note: LockNote::parse(text), keepers: LockNote::keepers(text), place, locker: None, file }
    }

    /// The file is free, and another process holds the folder, so the note says nothing about an owner. The keeper of another
    /// generation may have held the file.
    pub fn by_folder(file: File, text: &str, locker: Option<Pid>) -> Self {
        let held = Self::of(file, text);
        match held.note {
            LockNote::Keeper { .. } => Self { locker, ..held },
            LockNote::Owner { .. } | LockNote::Nobody => {
                Self { note: LockNote::Nobody, keepers: Vec::new(), place: None, locker, file: held.file }
            }
        }
    }

    /// The place in which the note was written, if that is another container or another machine.
    ///
    /// # Errors
    /// EMFILE or ENFILE.
    pub fn elsewhere(&self) -> io::Result<Option<Elsewhere>> {
        let own = own_place()?;
        Ok(self.place.as_deref().and_then(|place| elsewhere(place, own)))
    }
}

/// The plugin's flock(2), of `daemon.lock` and of the folder. The keeper holds duplicates of both descriptors, so the name is
/// free only after [`Lock::release`] or when owner and keeper are gone.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// The folder, if its file system has flock(2) on folders.
    folder: Option<Arc<File>>,
    /// False after the release. Locked while the note is written, because after the release the file may belong to another
    /// owner.
    held: Mutex<bool>,
}

impl Lock {
    /// Wraps a file and a folder that were just locked.
    pub fn of(file: File, folder: Option<Arc<File>>) -> Self {
        Self { file, folder, held: Mutex::new(true) }
    }

    /// This lock with another file: the folder was cleared, and `daemon.lock` was made anew. The folder stays locked.
    pub fn with_file(&self, file: File) -> Self {
        Self::of(file, self.folder.clone())
    }

    /// Replaces the note. A process that can't take the lock reads the note.
    ///
    /// # Errors
    /// The errno of the failed call.
    pub fn note(&self, note: &LockNote) -> io::Result<()> {
        let held = self.held();
        if *held { note.write_to(&self.file) } else { Ok(()) }
    }

    /// Unlocks folder and file, for the keeper's duplicate as well, so it must be called only after the tree is gone. close(2) is not
    /// enough, because a child between fork(2) and execve(2) has a duplicate too. If a lock is dropped without a release, the
    /// keeper still holds it.
    ///
    /// # Errors
    /// The errno of the failed call.
    pub fn release(&self) -> io::Result<()> {
        let mut held = self.held();
        if !std::mem::take(&mut *held) {
            return Ok(());
        }
        // If the note can't be cleared, the file is unlocked nevertheless: a note counts only while the lock is held.
        let written = LockNote::Nobody.write_to(&self.file);
        let folder = self.folder.as_ref().map_or(Ok(()), |folder| folder.unlock());
        self.file.unlock().and(folder).and(written)
    }

    /// Whether the lock of the folder holds the name although the lock file is gone.
    pub const fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// Whether the lock file has a name. If it can't be asked, it has one.
    pub fn has_name(&self) -> bool {
        self.file.metadata().map_or(true, |found| found.nlink() > 0)
    }

    pub fn as_file(&self) -> &File {
        &self.file
    }

    fn held(&self) -> MutexGuard<'_, bool> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Releases the lock on drop, if the preparation failed or was cancelled.
#[derive(Debug)]
pub struct LockGuard {
    lock: Arc<Lock>,
    kept: bool,
}

impl LockGuard {
    pub fn of(lock: Lock) -> Self {
        Self { lock: Arc::new(lock), kept: false }
    }

    /// # Errors
    /// As [`Lock::note`].
    pub fn note(&self, note: &LockNote) -> io::Result<()> {
        self.lock.note(note)
    }

    /// The preparation succeeded: a drop no longer releases the lock.
    pub fn keep(mut self) -> Arc<Lock> {
        self.kept = true;
        Arc::clone(&self.lock)
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.lock.release()
        {
            tracing::debug!(target: crate::supervisor::TARGET, %error, "a plugin's lock could not be released");
        }
    }
}
