//! The record on disk. Owner and keepers change it, and each change is a whole new file by rename(2), or none.
//!
//! While two generations live, a keeper may remove its own from the record at the moment in which the owner adds the other, or in
//! which the other keeper does the same. So a change is made under a flock(2) on `daemon.id` itself: no further file, and nobody
//! holds it for longer than a change takes.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{IDENTITY_FILE, Identity, LOG_PATH_FILE, PID_FILE, identities_text, parse_identities, parse_pid};

/// The largest file that is read. The files of this package are shorter.
pub const READ_MAX: u64 = 4096;

/// How long a change waits for another one. A process that was suspended in the midst of a change must not hold up the others.
const SECTION_LIMIT: Duration = Duration::from_millis(500);
const SECTION_PAUSE: Duration = Duration::from_millis(1);

/// A call that failed, and the file in the plugin's folder.
#[derive(Debug)]
pub struct RecordError {
    pub call: &'static str,
    pub file: String,
    pub error: io::Error,
}

type Result<T> = std::result::Result<T, RecordError>;

fn failed<E: Into<io::Error>>(call: &'static str, file: &str) -> impl Fn(E) -> RecordError {
    let file = file.to_owned();
    move |error| RecordError { call, file: file.clone(), error: error.into() }
}

/// `daemon.pid` and `daemon.id` in a plugin's folder.
#[derive(Clone, Copy)]
pub struct RecordFiles<'a> {
    folder: BorrowedFd<'a>,
}

/// The right to change the record. `None`: there is no `daemon.id`, or its file system has no flock(2).
struct Section(Option<File>);

impl Drop for Section {
    fn drop(&mut self) {
        // close(2) is not enough: a child between fork(2) and execve(2) has a copy of the descriptor. An error: the close is left.
        self.0.take().map_or(Ok(()), |file| file.unlock()).unwrap_or_default();
    }
}

impl<'a> RecordFiles<'a> {
    pub fn of(folder: &'a impl AsFd) -> Self {
        Self { folder: folder.as_fd() }
    }

    /// The pid in `daemon.pid`. A pid alone identifies no process. The TypeScript original wrote only this file.
    ///
    /// # Errors
    /// A plain file can't be read.
    pub fn pid(self) -> Result<Option<i32>> {
        Ok(self.read(PID_FILE)?.and_then(|text| parse_pid(&text)))
    }

    /// The identities in `daemon.id`, the serving generation first.
    ///
    /// # Errors
    /// A plain file can't be read.
    pub fn identities(self) -> Result<Vec<Identity>> {
        Ok(self.read(IDENTITY_FILE)?.map(|text| parse_identities(&text)).unwrap_or_default())
    }

    /// Writes `serving` as the serving generation. Those of `known` that are still in the record stay in it. `daemon.pid` changes
    /// last. After a failure the record is what it was; only a generation that it did not name may be in `daemon.id`, because its
    /// tree may live.
    ///
    /// # Errors
    /// The call that failed.
    pub fn put_serving(self, serving: &Identity, known: &[Identity]) -> Result<()> {
        let _section = self.enter()?;
        let before = self.read(IDENTITY_FILE)?.map(|text| parse_identities(&text));
        let was_named = before.as_ref().is_some_and(|before| before.contains(serving));
        let identities: Vec<_> = [serving.clone()].into_iter().chain(others(before.as_deref(), known, serving)).collect();
        let _locked = self.write_beside(IDENTITY_FILE, &identities_text(&identities))?;
        // Both whole files first: after that only the renames can fail.
        let pid_written = self.write_beside(PID_FILE, &format!("{}\n", serving.leader)).map(drop);
        if was_named && pid_written.is_err() {
            self.drop_beside(IDENTITY_FILE);
            return pid_written;
        }
        let renamed = self.rename_beside(IDENTITY_FILE).and(pid_written).and_then(|()| {
            self.rename_beside(PID_FILE).inspect_err(|_| {
                if was_named {
                    // If that fails as well, the record names the same generations in another order.
                    self.replace(&before.unwrap_or_default()).unwrap_or_default();
                }
            })
        });
        renamed.inspect_err(|_| [IDENTITY_FILE, PID_FILE].into_iter().for_each(|name| self.drop_beside(name)))
    }

    /// Adds a generation that does not serve. Those of `known` that are still in the record stay in it. After a failure the record is
    /// what it was.
    ///
    /// # Errors
    /// The call that failed.
    pub fn add(self, identity: &Identity, known: &[Identity]) -> Result<()> {
        let _section = self.enter()?;
        let before = self.read(IDENTITY_FILE)?.map(|text| parse_identities(&text));
        let mut identities: Vec<_> = others(before.as_deref(), known, identity).collect();
        identities.push(identity.clone());
        self.replace(&identities)
    }

    /// Removes the generations that `is_gone` names, whose leader had this pid. The record of other leaders stays: on a file system
    /// without flock(2) for folders, another owner can take the name after the folder was cleared. If one file can't be removed,
    /// the other is removed nevertheless.
    ///
    /// # Errors
    /// The first call that failed.
    pub fn forget(self, leader: i32, is_gone: impl Fn(&Identity) -> bool) -> Result<()> {
        let _section = self.enter()?;
        let (pid, before) = (self.pid()?, self.identities()?);
        let left: Vec<_> = before.iter().filter(|identity| !is_gone(identity)).cloned().collect();
        // The pid may have been given to a leader that lives.
        let is_pid_of_others = pid.is_some_and(|pid| pid != leader || left.iter().any(|identity| identity.leader == pid));
        let pid_removed = if is_pid_of_others { Ok(()) } else { self.remove(PID_FILE) };
        let identity_removed = match left.as_slice() {
            [] => self.remove(IDENTITY_FILE),
            left if left.len() == before.len() => Ok(()),
            left => self.replace(left),
        };
        identity_removed.and(pid_removed)
    }

    /// # Errors
    /// The call that failed. ENOENT is no failure.
    pub fn remove(self, name: &str) -> Result<()> {
        match unlinkat(self.folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            // On a read-only file system unlink(2) gives EROFS even without a file. Then there is nothing to remove.
            Err(_) if fstatat(self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(failed("unlink", name)(error)),
        }
    }

    /// The path in `daemon.log-path`.
    ///
    /// # Errors
    /// A plain file can't be read.
    pub fn log_path(self) -> Result<Option<PathBuf>> {
        let text = self.read(LOG_PATH_FILE)?;
        let path = text.as_deref().and_then(|text| text.strip_suffix('\n')).map(PathBuf::from);
        Ok(path.filter(|path| path.is_absolute()))
    }

    /// Writes `daemon.log-path`. Only the holder of the plugin's lock may call this.
    ///
    /// # Errors
    /// The call that failed.
    pub fn put_log_path(self, path: &Path) -> Result<()> {
        self.write_beside(LOG_PATH_FILE, &format!("{}\n", path.display()))?;
        self.rename_beside(LOG_PATH_FILE).inspect_err(|_| self.drop_beside(LOG_PATH_FILE))
    }

    /// Removes the temporary files of changes that were killed.
    ///
    /// # Errors
    /// The first call that failed.
    pub fn remove_temporaries(self) -> Result<()> {
        [IDENTITY_FILE, PID_FILE, LOG_PATH_FILE].into_iter().try_for_each(|name| self.remove(&temporary(name)))
    }

    fn enter(self) -> Result<Section> {
        let limit = Instant::now() + SECTION_LIMIT;
        while let Some(file) = self.open(IDENTITY_FILE)? {
            match file.try_lock() {
                Ok(()) if self.is_at(IDENTITY_FILE, &file) => return Ok(Section(Some(file))),
                // Another change has replaced or removed the file meanwhile.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < limit => sleep(SECTION_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(failed("flock", IDENTITY_FILE)(Errno::EWOULDBLOCK)),
                Err(TryLockError::Error(_)) => break,
            }
        }
        // Only the owner, which holds the plugin's lock, makes the first one.
        Ok(Section(None))
    }

    fn is_at(self, name: &str, file: &File) -> bool {
        let (Ok(held), Ok(there)) = (fstat(file), fstatat(self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)) else { return false };
        (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
    }

    /// Without a file, or for a link, a folder or a socket: `None`. If a plain file can't be opened, that is an error, because the
    /// file may name an orphan.
    fn open(self, name: &str) -> Result<Option<File>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(self.folder, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            // open(2) of a socket is ENXIO on Linux and EOPNOTSUPP on macOS.
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO | Errno::EOPNOTSUPP) => return Ok(None),
            Err(error) => return Err(failed("open", name)(error)),
        };
        let is_plain = file.metadata().map_err(failed("read", name))?.is_file();
        Ok(is_plain.then_some(file))
    }

    fn read(self, name: &str) -> Result<Option<String>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes).map_err(failed("read", name))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn replace(self, identities: &[Identity]) -> Result<()> {
        let _locked = self.write_beside(IDENTITY_FILE, &identities_text(identities))?;
        self.rename_beside(IDENTITY_FILE).inspect_err(|_| self.drop_beside(IDENTITY_FILE))
    }

    /// Writes the next content of the file `name` under a temporary name. The new `daemon.id` is locked from the beginning, so that
    /// its rename(2) does not end the section.
    fn write_beside(self, name: &str, text: &str) -> Result<Section> {
        const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
        let temporary = temporary(name);
        // A process that was killed before its rename(2) may have left one.
        self.remove(&temporary)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(self.folder, temporary.as_str(), flags, PRIVATE).map(File::from);
        let mut file = opened.map_err(failed("open", &temporary))?;
        // The umask may have removed permissions.
        let written = fchmod(&file, PRIVATE).map_err(failed("fchmod", &temporary)).and_then(|()| {
            let locked = if name == IDENTITY_FILE { file.try_lock().is_ok() } else { false };
            file.write_all(text.as_bytes()).map(|()| locked).map_err(failed("write", &temporary))
        });
        let locked = written.inspect_err(|_| self.drop_beside(name))?;
        Ok(Section(locked.then_some(file)))
    }

    fn rename_beside(self, name: &str) -> Result<()> {
        renameat(self.folder, temporary(name).as_str(), self.folder, name).map_err(failed("rename", name))
    }

    /// After a failure. What can't be removed now is removed by the next change.
    fn drop_beside(self, name: &str) {
        self.remove(&temporary(name)).unwrap_or_default();
    }
}

pub(super) fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

/// The further generations of a new record: those of `known` that a keeper has not removed. Without a file the folder was cleared,
/// and all of them are written anew.
fn others<'a>(before: Option<&'a [Identity]>, known: &'a [Identity], new: &'a Identity) -> impl Iterator<Item = Identity> + use<'a> {
    known.iter().filter(move |identity| *identity != new && before.is_none_or(|found| found.contains(identity))).cloned()
}
