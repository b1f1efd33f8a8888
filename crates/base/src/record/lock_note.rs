//! The text in `daemon.lock`. If flock(2) on the file fails, another owner reads here which process holds the lock: an owner, or a
//! keeper in each line.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::Duration;

use super::{READ_MAX, own_place};
use crate::os::{may_live, own_pid};

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
        overwrite(file, &self.text_here())
    }

    /// Writes the note of a keeper whose owner is dead. While two generations live, both keepers hold the lock: the line of the other
    /// keeper stays, if that keeper lives. `is_held`: whether this process holds the lock of the file, and not only that of the
    /// folder. If not, the note of a living owner stays as it is.
    ///
    /// # Errors
    /// Errors of pwrite(2) and ftruncate(2).
    pub fn write_beside_others(&self, file: &File, is_held: bool) -> io::Result<()> {
        let _section = NoteSection::enter(file);
        let mut bytes = vec![0; usize::try_from(READ_MAX).unwrap_or_default()];
        // A note that can't be read names nobody.
        let count = file.read_at(&mut bytes, 0).unwrap_or_default();
        let before = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned();
        if !is_held && matches!(Self::parse(&before), Self::Owner { pid, start, .. } if may_live(pid, start)) {
            return Ok(());
        }
        let is_other = |line: &&str| match Self::parse(line) {
            Self::Keeper { pid, start, .. } => pid != own_pid() && may_live(pid, start),
            Self::Owner { .. } | Self::Nobody => false,
        };
        let others = before.lines().filter(is_other).map(|line| format!("{line}\n"));
        overwrite(file, &others.chain([self.text_here()]).collect::<String>())
    }

    fn text_here(&self) -> String {
        let mut note = self.to_string();
        // Without a descriptor for /proc the note has no place, as that of an older version.
        if let (Self::Owner { .. } | Self::Keeper { .. }, Ok(place)) = (self, own_place()) {
            note.insert_str(note.trim_end().len(), &format!(" {place}"));
        }
        note
    }

    /// The keepers in the lines of a note. Between the write and the truncation of a note the rest of an older one follows, so each
    /// keeper needs further proof.
    pub fn keepers(text: &str) -> Vec<Self> {
        text.lines().map(Self::parse).filter(|note| matches!(note, Self::Keeper { .. })).collect()
    }

    /// The place in which the note's pid counts, as [`own_place`] has it. `None` in the note of an older version.
    pub fn place(text: &str) -> Option<&str> {
        let mut fields = text.lines().next()?.splitn(5, ' ');
        fields.nth(4).filter(|place| !place.is_empty())
    }

    /// Reads the first line only: [`Self::keepers`].
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

// Overwrite, then truncate: a full disk has no room for a new file.
fn overwrite(file: &File, note: &str) -> io::Result<()> {
    file.write_all_at(note.as_bytes(), 0)?;
    file.set_len(note.len() as u64)
}

/// The right of one keeper among two to change the note: a POSIX record lock. The flock(2) of the name does not exclude the other
/// keeper, which has a duplicate of the same descriptor.
struct NoteSection<'a>(&'a File);

impl<'a> NoteSection<'a> {
    const ATTEMPTS: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(1);

    /// If the other keeper was suspended in its section, or if the file system has no such locks, goes on without.
    fn enter(file: &'a File) -> Self {
        for _ in 0..Self::ATTEMPTS {
            match record_lock(file, libc::F_WRLCK) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => sleep(Self::PAUSE),
                Ok(()) | Err(_) => break,
            }
        }
        Self(file)
    }
}

impl Drop for NoteSection<'_> {
    fn drop(&mut self) {
        // An error: there was no lock.
        record_lock(self.0, libc::F_UNLCK).unwrap_or_default();
    }
}

fn record_lock(file: &File, kind: impl TryInto<libc::c_short>) -> io::Result<()> {
    // SAFETY: integers only, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind.try_into().unwrap_or_default();
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    // SAFETY: the structure outlives the call. A length of 0 means the whole file.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
