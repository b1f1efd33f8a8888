//! The lock of a plugin's name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ally_base::record::LockNote;

/// A lock that another owner or a keeper holds, and its note.
#[derive(Debug)]
pub struct Held {
    pub note: LockNote,
    pub file: File,
}

/// The plugin's flock(2). The keeper holds a copy of the same lock, so the name is free only when the owner has released it
/// and the tree is gone.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// False after the release. Locked while the note is written: after the release the note is another owner's.
    ours: Mutex<bool>,
}

impl Lock {
    /// Of a file that was just locked.
    pub fn of(file: File) -> Self {
        Self { file, ours: Mutex::new(true) }
    }

    /// Replaces the note, which is read by whoever finds the lock taken.
    ///
    /// # Errors
    /// What the system says.
    pub fn note(&self, note: &LockNote) -> io::Result<()> {
        let ours = self.ours();
        if *ours { note.write_to(&self.file) } else { Ok(()) }
    }

    /// Frees the name, for the keeper's copy as well: only after the tree is gone. close(2) is not enough, because a child
    /// between fork and exec has a copy of the descriptor too. If a lock is dropped without this, the keeper still holds it.
    ///
    /// # Errors
    /// What the system says.
    pub fn release(&self) -> io::Result<()> {
        let mut ours = self.ours();
        if !std::mem::take(&mut *ours) {
            return Ok(());
        }
        // Unlocked also if the note can't be cleared: the note counts only while the lock is held.
        let written = LockNote::Nobody.write_to(&self.file);
        self.file.unlock().and(written)
    }

    pub fn as_file(&self) -> &File {
        &self.file
    }

    fn ours(&self) -> MutexGuard<'_, bool> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Releases the lock if the preparation that took it fails or is cancelled.
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

    /// The preparation has succeeded: from now on the lock is released by hand.
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
