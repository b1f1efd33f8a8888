//! A plugin's folder below `envsDir`: its lock, `daemon.pid`, and `daemon.id`.
//!
//! No symlink below `envsDir` is followed. Each file is written whole or not at all: a temporary file, then rename(2).

use std::fs::{File, TryLockError};
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::geteuid;

use super::envs_dir::{foreign, make_envs_dir};
use super::{Held, Lock};
use crate::error::{Failure, FileProblem};
use crate::model::Pid;
use ally_base::os;
use ally_base::record::{IDENTITY_FILE, Identity, LOCK_FILE, LOG_PATH_FILE, PID_FILE, READ_MAX, RecordError, RecordFiles};

const PERMISSIONS: Mode = Mode::S_IRWXU.union(Mode::S_IRWXG).union(Mode::S_IRWXO);
const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// The folder of one plugin, opened without following a link.
#[derive(Debug)]
pub struct Folder {
    /// Also the second half of the lock: see [`Folder::try_lock`].
    fd: Arc<File>,
    path: PathBuf,
    /// Device and inode.
    id: (libc::dev_t, libc::ino_t),
    /// The mode of `envsDir`, if others than its owner and root can replace this folder.
    pub envs_dir_open: Option<u32>,
    /// The mode that the folder had, if other users had permissions, which were removed.
    pub closed_from: Option<libc::mode_t>,
}

impl Folder {
    /// Opens the folder. Creates it and its missing parents, with permissions for this user only.
    ///
    /// # Errors
    /// `Io` with the path: the folder can't be created, is a link or another file, or belongs to another user.
    pub fn open(envs_dir: &Path, plugin: &str) -> Result<Self, Failure> {
        let path = envs_dir.join(plugin);
        let envs_dir_open = make_envs_dir(envs_dir)?;
        let made = match mkdirat(AT_FDCWD, &path, Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(Failure::call("mkdir", &path, error)),
        };
        if made {
            // The umask may have removed permissions, even those of this user.
            give_to_user(&path).map_err(|error| Failure::call("chmod", &path, error))?;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let fd = openat(AT_FDCWD, &path, flags, Mode::empty()).map_err(|error| match error {
            Errno::ENOTDIR | Errno::ELOOP => Failure::io(&path, "must be a folder, and not a link to one"),
            error => Failure::call("open", &path, error),
        })?;
        let stat = fstat(&fd).map_err(|error| Failure::call("fstat", &path, error))?;
        if stat.st_uid != geteuid().as_raw() {
            return Err(Failure::io(&path, foreign(stat.st_uid)));
        }
        // An existing folder may be writable for other users, who could then replace the files in it.
        let mode = Mode::from_bits_truncate(stat.st_mode);
        let wanted = mode.intersection(Mode::S_IRWXU);
        let mut closed_from = None;
        if mode & PERMISSIONS != wanted & PERMISSIONS {
            fchmod(&fd, wanted & PERMISSIONS).map_err(|error| Failure::call("fchmod", &path, error))?;
            closed_from = Some(stat.st_mode & 0o7777).filter(|_| !made);
        }
        Ok(Self { fd: Arc::new(File::from(fd)), path, id: (stat.st_dev, stat.st_ino), envs_dir_open, closed_from })
    }

    /// Whether the path still leads to this folder. If a plugin is installed again, its folder is a new one.
    pub fn is_in_place(&self) -> bool {
        nix::sys::stat::lstat(&self.path).is_ok_and(|there| (there.st_dev, there.st_ino) == self.id)
    }

    /// A duplicate of the descriptor, so that the keeper needs no path. It shares the flock(2) on the folder.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone().map(OwnedFd::from)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The open folder.
    pub fn as_file(&self) -> &File {
        &self.fd
    }

    /// Opens or creates a plain file that belongs to this user and has one name.
    pub fn open_file(&self, name: &str, flags: OFlag) -> Result<File, Failure> {
        let io_failure = |call| move |error: Errno| Failure::call(call, &self.join(name), error);
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = openat(&self.fd, name, flags, PRIVATE).map_err(|error| match error {
            Errno::ELOOP => Failure::io(&self.join(name), "is a symbolic link, which is never followed here"),
            error => io_failure("open")(error),
        })?;
        let stat = fstat(&fd).map_err(io_failure("fstat"))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(Failure::io(&self.join(name), "must be a plain file"));
        }
        if stat.st_uid != geteuid().as_raw() {
            return Err(Failure::io(&self.join(name), foreign(stat.st_uid)));
        }
        if stat.st_nlink > 1 {
            return Err(Failure::io(&self.join(name), "has another name as well (a hard link), which may be somebody else's file"));
        }
        if flags.contains(OFlag::O_CREAT) && Mode::from_bits_truncate(stat.st_mode) & PERMISSIONS != PRIVATE {
            fchmod(&fd, PRIVATE).map_err(io_failure("fchmod"))?;
        }
        Ok(File::from(fd))
    }

    /// The pid in `daemon.pid`. A pid alone identifies no process. The TypeScript original wrote only this file.
    pub fn read_pid(&self) -> Result<Option<Pid>, Failure> {
        self.files().pid().map_err(|error| self.failure(error))
    }

    /// The first identity of the record: the serving generation, if one serves.
    pub fn read_identity(&self) -> Result<Option<Identity>, Failure> {
        Ok(self.read_identities()?.into_iter().next())
    }

    /// The identities of all generations.
    pub fn read_identities(&self) -> Result<Vec<Identity>, Failure> {
        self.files().identities().map_err(|error| self.failure(error))
    }

    fn files(&self) -> RecordFiles<'_> {
        RecordFiles::of(&*self.fd)
    }

    fn failure(&self, RecordError { call, file, error }: RecordError) -> Failure {
        Failure::call(call, &self.join(&file), error)
    }

    /// Checks before the spawn that rename(2) can write the record.
    ///
    /// # Errors
    /// `Io` if a folder is in the place of `daemon.pid` or `daemon.id`.
    pub fn check_places(&self) -> Result<(), Failure> {
        for name in [PID_FILE, IDENTITY_FILE] {
            let found = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            if found.is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR) {
                let text = "EISDIR: a folder is in the place of this file".to_owned();
                let problem = FileProblem::Found { text, errno: Some(libc::EISDIR) };
                return Err(Failure::Io { path: self.join(name).display().to_string(), problem });
            }
        }
        Ok(())
    }

    /// Writes the record of a daemon with one generation.
    pub fn record(&self, identity: &Identity) -> Result<(), Failure> {
        self.record_serving(identity, &[])
    }

    /// As [`RecordFiles::put_serving`].
    pub fn record_serving(&self, identity: &Identity, known: &[Identity]) -> Result<(), Failure> {
        self.files().put_serving(identity, known).map_err(|error| self.failure(error))
    }

    /// As [`RecordFiles::add`].
    pub fn record_successor(&self, identity: &Identity, known: &[Identity]) -> Result<(), Failure> {
        self.files().add(identity, known).map_err(|error| self.failure(error))
    }

    /// Removes both files of the record. If one can't be removed, the other is removed nevertheless.
    pub fn remove_record(&self) -> Result<(), Failure> {
        let pid = self.files().remove(PID_FILE);
        self.files().remove(IDENTITY_FILE).and(pid).map_err(|error| self.failure(error))
    }

    /// As [`RecordFiles::put_log_path`].
    pub fn put_log_path(&self, path: &Path) -> Result<(), Failure> {
        self.files().put_log_path(path).map_err(|error| self.failure(error))
    }

    /// The plugin has no log file any more.
    pub fn remove_log_path(&self) -> Result<(), Failure> {
        self.files().remove(LOG_PATH_FILE).map_err(|error| self.failure(error))
    }

    /// As [`RecordFiles::remove_temporaries`].
    pub fn remove_temporaries(&self) -> Result<(), Failure> {
        self.files().remove_temporaries().map_err(|error| self.failure(error))
    }

    /// Removes one generation from the record, and with the last one both files. The record of another leader stays. If one file
    /// can't be changed, the other is changed nevertheless.
    pub fn forget(&self, identity: &Identity) -> Result<(), Failure> {
        self.files().forget(identity.leader, |found| found == identity).map_err(|error| self.failure(error))
    }

    /// Whether `daemon.lock` is still this file. If the folder was cleared, another file can be locked under its name.
    pub fn has_lock_file(&self, file: &File) -> bool {
        // First: what it waits for may put another file there.
        if !os::has_name(&self.fd, Path::new(LOCK_FILE)) {
            return false;
        }
        let (Ok(held), Ok(there)) = (fstat(file), fstatat(&self.fd, LOCK_FILE, AtFlags::AT_SYMLINK_NOFOLLOW)) else { return false };
        (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
    }

    /// Takes the plugin's lock: `daemon.lock`, then the folder, so that the name is held although the folder was cleared. If
    /// another process holds the lock, returns the note of that process.
    ///
    /// # Errors
    /// `Io`.
    pub fn try_lock(&self) -> Result<Result<Lock, Held>, Failure> {
        for _ in 0..LOCK_ATTEMPTS {
            let file = match self.try_lock_file()? {
                Ok(file) => file,
                Err(held) => return Ok(Err(held)),
            };
            if !self.has_lock_file(&file) {
                continue;
            }
            match self.fd.try_lock() {
                Ok(()) => return Ok(Ok(Lock::of(file, Some(Arc::clone(&self.fd))))),
                Err(TryLockError::WouldBlock) => {
                    let text = read_note(&file);
                    file.unlock().map_err(|error| Failure::call("flock", &self.join(LOCK_FILE), error))?;
                    return Ok(Err(Held::by_folder(file, &text, os::flock_holder(&self.fd))));
                }
                // The file system has no flock(2) on folders (NFS: EBADF), so the file's lock alone counts.
                Err(TryLockError::Error(error)) if has_no_folder_locks(&error) => return Ok(Ok(Lock::of(file, None))),
                Err(TryLockError::Error(error)) => return Err(Failure::call("flock", &self.path, error)),
            }
        }
        Err(Failure::io(&self.join(LOCK_FILE), "was replaced again and again"))
    }

    /// Whether the process is a keeper that holds the lock: of `lock`, the lock file, or of the folder.
    pub fn is_locked_by(&self, pid: Pid, lock: &File) -> bool {
        os::holds(pid, KEEPER, lock) || os::holds(pid, KEEPER, &self.fd)
    }

    /// Takes the lock of `daemon.lock` alone, for an owner that holds the lock of the folder.
    ///
    /// # Errors
    /// `Io`.
    pub fn try_lock_file(&self) -> Result<Result<File, Held>, Failure> {
        let file = self.open_file(LOCK_FILE, OFlag::O_RDWR | OFlag::O_CREAT)?;
        match file.try_lock() {
            Ok(()) => Ok(Ok(file)),
            Err(TryLockError::WouldBlock) => {
                let text = read_note(&file);
                Ok(Err(Held::of(file, &text)))
            }
            Err(TryLockError::Error(error)) => Err(Failure::call("flock", &self.join(LOCK_FILE), error)),
        }
    }
}

/// The process name of a keeper.
pub(super) const KEEPER: &str = "ally-keeper";

/// The text of a lock file. Empty if it can't be read.
pub fn read_note(file: &File) -> String {
    let mut bytes = vec![0; usize::try_from(READ_MAX).unwrap_or_default()];
    let count = file.read_at(&mut bytes, 0).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned()
}

/// The tries, if another process replaces the lock file between open(2) and flock(2).
const LOCK_ATTEMPTS: u32 = 3;

fn has_no_folder_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL | libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP))
}

/// chmod(2) to 0700 of a folder that this user just made. Others may be able to write in `envsDir` and to replace the folder by
/// a link, so a link is not followed.
#[cfg(target_os = "linux")]
fn give_to_user(path: &Path) -> nix::Result<()> {
    // fchmodat(2) has no AT_SYMLINK_NOFOLLOW before Linux 6.6, and fchmod(2) needs permissions that the umask may have removed.
    let folder = openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstat(&folder)?.st_uid != geteuid().as_raw() {
        return Ok(());
    }
    fchmodat(AT_FDCWD, format!("/proc/self/fd/{}", folder.as_raw_fd()).as_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)
}

#[cfg(not(target_os = "linux"))]
fn give_to_user(path: &Path) -> nix::Result<()> {
    fchmodat(AT_FDCWD, path, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)
}
