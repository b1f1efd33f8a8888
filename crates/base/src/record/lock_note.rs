//! The text in `daemon.lock`. If flock(2) on the file fails, another owner reads here which process holds the lock.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::own_place;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockNote {
    Owner {
        pid: i32,
        start: u64,
        manager: u64,
    },
    /// The owner is dead. The keeper still has the tree, and ends the tree on SIGTERM.
    Keeper {
        pid: i32,
        start: u64,
        grace_ms: u64,
    },
    Nobody,
}

impl LockNote {
    /// Writes the note into the lock file, with the place of this process. Only the holder of the lock may call this.
    ///
    /// # Errors
    /// Errors of pwrite(2) and ftruncate(2).
    pub fn write_to(&self, file: &File) -> io::Result<()> {
        let mut note = self.to_string();
        // Without a descriptor for /proc the note has no place, as that of an older version.
        if let (Self::Owner { .. } | Self::Keeper { .. }, Ok(place)) = (self, own_place()) {
            note.insert_str(note.trim_end().len(), &format!(" {place}"));
        }
        // Overwrite, then truncate: a full disk has no room for a new file.
        file.write_all_at(note.as_bytes(), 0)?;
        file.set_len(note.len() as u64)
    }

    /// The place in which the note's pid counts, as [`own_place`] has it. `None` in the note of an older version.
    pub fn place(text: &str) -> Option<&str> {
        let mut fields = text.lines().next()?.splitn(5, ' ');
        fields.nth(4).filter(|place| !place.is_empty())
    }

    /// Reads the first line only. Between the write and the truncation the rest of an older, longer note follows.
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
