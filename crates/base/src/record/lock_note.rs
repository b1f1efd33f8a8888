//! What stands in `daemon.lock` while it is locked: whoever finds the lock taken reads whose it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockNote {
    Owner {
        pid: i32,
        start: u64,
        manager: u64,
    },
    /// The owner is dead. This keeper still has its tree, and ends it on SIGTERM.
    Keeper {
        pid: i32,
        start: u64,
        grace_ms: u64,
    },
    Nobody,
}

impl LockNote {
    /// Into the lock's file, by its holder.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_to(&self, file: &File) -> io::Result<()> {
        let note = self.to_string();
        // In place, and then cut: a full disk has no room for a new file.
        file.write_all_at(note.as_bytes(), 0)?;
        file.set_len(note.len() as u64)
    }

    /// The first line: what follows is left of a longer one before.
    pub fn parse(text: &str) -> Self {
        let mut words = text.lines().next().unwrap_or_default().split_ascii_whitespace();
        let kind = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(pid), Some(start), Some(last)) = (number().and_then(|pid| i32::try_from(pid).ok()), number(), number()) else {
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
