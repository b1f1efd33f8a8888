//! The lock of a plugin's name, and what stands in its file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::Pid;

/// A lock that somebody else has, and what that one says of himself.
#[derive(Debug)]
pub struct Held {
    pub note: LockNote,
    pub file: File,
}

/// The plugin's flock(2). The keeper holds a copy of the same lock, so it is free only when both the
/// owner has let go and the tree is gone.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// False once it was released. Held while the note is written, which is nobody's business any more then.
    ours: Mutex<bool>,
}

impl Lock {
    /// Of a file that was just locked.
    pub fn of(file: File) -> Self {
        Self { file, ours: Mutex::new(true) }
    }

    /// What others read who find it taken.
    pub fn note(&self, note: &LockNote) -> io::Result<()> {
        let ours = self.ours();
        if *ours { self.write(note) } else { Ok(()) }
    }

    /// Frees the name, and for the keeper's copy as well: only once the tree is gone. Not left to close(2),
    /// because a child_process between fork and exec has a copy of the descriptor too. Where this is merely
    /// dropped, the lock stays with the keeper for as long as there is one.
    pub fn release(&self) -> io::Result<()> {
        let mut ours = self.ours();
        if !std::mem::take(&mut *ours) {
            return Ok(());
        }
        // Free even where the note can't be taken back: it counts only while the lock is held.
        let written = self.write(&LockNote::Nobody);
        self.file.unlock().and(written)
    }

    pub fn as_file(&self) -> &File {
        &self.file
    }

    fn write(&self, note: &LockNote) -> io::Result<()> {
        let note = note.to_string();
        // In place, and then cut: a full disk has no room for what would be written anew.
        self.file.write_all_at(note.as_bytes(), 0)?;
        self.file.set_len(note.len() as u64)
    }

    fn ours(&self) -> MutexGuard<'_, bool> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What stands in the lock file while it is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockNote {
    Owner {
        pid: Pid,
        start: u64,
        manager: u64,
    },
    /// The owner is dead. This keeper still has its tree, and ends it on SIGTERM.
    Keeper {
        pid: Pid,
        start: u64,
        grace_ms: u64,
    },
    Nobody,
}

impl LockNote {
    /// The first line: what follows is left of a longer one before.
    pub fn parse(text: &str) -> Self {
        let mut words = text.lines().next().unwrap_or_default().split_ascii_whitespace();
        let kind = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(pid), Some(start), Some(last)) = (number().and_then(|pid| Pid::try_from(pid).ok()), number(), number()) else {
            return Self::Nobody;
        };
        match kind {
            _ if pid <= 1 && kind != Some("owner") => Self::Nobody,
            Some("owner") => Self::Owner { pid, start, manager: last },
            Some("keeper") => Self::Keeper { pid, start, grace_ms: last },
            _ => Self::Nobody,
        }
    }
}

impl std::fmt::Display for LockNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner { pid, start, manager } => writeln!(f, "owner {pid} {start} {manager}"),
            Self::Keeper { pid, start, grace_ms } => writeln!(f, "keeper {pid} {start} {grace_ms}"),
            Self::Nobody => Ok(()),
        }
    }
}
