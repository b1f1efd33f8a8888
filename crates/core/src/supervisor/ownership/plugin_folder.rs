//! A plugin's folder below `envsDir`: its lock, `daemon.pid`, and `daemon.id`.
//!
//! No symlink below `envsDir` is followed. Each file is written whole or not at all: a temporary file, then rename(2).

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::envs_dir::{foreign, make_envs_dir};
use super::{Held, Lock};
use crate::error::{Failure, FileProblem};
use crate::model::Pid;
use ally_base::os;
use ally_base::record::{IDENTITY_FILE, Identity, LOCK_FILE, LockNote, PID_FILE, parse_pid};

const PERMISSIONS: Mode = Mode::S_IRWXU.union(Mode::S_IRWXG).union(Mode::S_IRWXO);
const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// The largest file that is read. The files of this package are shorter.
pub const READ_MAX: u64 = 4096;

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

    /// Opens or creates a plain file that belongs to this user and has one name.
    fn open_file(&self, name: &str, flags: OFlag) -> Result<File, Failure> {
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

    /// The text of a plain file. Without a file, or for a link, a folder or a socket: `None`. If a plain file can't be read, that
    /// is an error, because the file may name an orphan.
    fn read(&self, name: &str) -> Result<Option<String>, Failure> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            // open(2) of a socket is ENXIO on Linux and EOPNOTSUPP on macOS.
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO | Errno::EOPNOTSUPP) => return Ok(None),
            Err(error) => return Err(Failure::call("open", &self.join(name), error)),
        };
        let io_failure = |error: io::Error| Failure::call("read", &self.join(name), error);
        if !file.metadata().map_err(io_failure)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes).map_err(io_failure)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let temporary = format!(".{name}.new");
        // An owner that was killed before its rename(2) may have left one. This owner holds the lock, so no other process writes
        // here.
        self.remove(&temporary)?;
        let written = self
            .open_file(&temporary, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)
            .and_then(|mut file| file.write_all(text.as_bytes()).map_err(|error| Failure::call("write", &self.join(name), error)))
            .and_then(|()| {
                renameat(&self.fd, temporary.as_str(), &self.fd, name).map_err(|error| Failure::call("rename", &self.join(name), error))
            });
        if written.is_err() {
            self.remove(&temporary)?;
        }
        written
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            // On a read-only file system unlink(2) gives EROFS even without a file. Then there is nothing to remove.
            Err(_) if fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(Failure::call("unlink", &self.join(name), error)),
        }
    }

    /// The pid in `daemon.pid`. A pid alone identifies no process. The TypeScript original wrote only this file.
    pub fn read_pid(&self) -> Result<Option<Pid>, Failure> {
        Ok(self.read(PID_FILE)?.and_then(|text| parse_pid(&text)))
    }

    pub fn read_identity(&self) -> Result<Option<Identity>, Failure> {
        Ok(self.read(IDENTITY_FILE)?.and_then(|text| Identity::parse(&text)))
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

    /// Writes the record. The identity comes first, because a pid file without an identity proves less.
    pub fn record(&self, identity: &Identity) -> Result<(), Failure> {
        self.write(IDENTITY_FILE, &identity.to_string())?;
        self.write(PID_FILE, &format!("{}\n", identity.leader))
    }

    /// Removes both files of the record. If one can't be removed, the other is removed nevertheless.
    pub fn remove_record(&self) -> Result<(), Failure> {
        let pid = self.remove(PID_FILE);
        self.remove(IDENTITY_FILE).and(pid)
    }

    /// Removes the files of the record that don't name another leader. If one can't be removed, the other is removed nevertheless.
    pub fn remove_record_of(&self, identity: &Identity) -> Result<(), Failure> {
        let pid = self.read_pid()?.is_none_or(|pid| pid == identity.leader);
        let own = self.read_identity()?.is_none_or(|found| found == *identity);
        let pid = if pid { self.remove(PID_FILE) } else { Ok(()) };
        let own = if own { self.remove(IDENTITY_FILE) } else { Ok(()) };
        own.and(pid)
    }

    /// Whether `daemon.lock` is still this file. If the folder was cleared, another file can be locked under its name.
    pub fn has_lock_file(&self, file: &File) -> bool {
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
                    // The file was free, so its note says nothing about the holder of the folder.
                    file.unlock().map_err(|error| Failure::call("flock", &self.join(LOCK_FILE), error))?;
                    let locker = os::flock_holder(&self.fd);
                    return Ok(Err(Held { note: LockNote::Nobody, place: None, locker, file }));
                }
                // The file system has no flock(2) on folders (NFS: EBADF), so the file's lock alone counts.
                Err(TryLockError::Error(error)) if has_no_folder_locks(&error) => return Ok(Ok(Lock::of(file, None))),
                Err(TryLockError::Error(error)) => return Err(Failure::call("flock", &self.path, error)),
            }
        }
        Err(Failure::io(&self.join(LOCK_FILE), "was replaced again and again"))
    }

    /// Takes the lock of `daemon.lock` alone, for an owner that holds the lock of the folder.
    ///
    /// # Errors
    /// `Io`.
    pub fn try_lock_file(&self) -> Result<Result<File, Held>, Failure> {
        let mut file = self.open_file(LOCK_FILE, OFlag::O_RDWR | OFlag::O_CREAT)?;
        match file.try_lock() {
            Ok(()) => Ok(Ok(file)),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.rewind().and_then(|()| (&file).take(READ_MAX).read_to_string(&mut text));
                let note = read.map_or(LockNote::Nobody, |_| LockNote::parse(&text));
                Ok(Err(Held { note, place: LockNote::place(&text).map(str::to_owned), locker: None, file }))
            }
            Err(TryLockError::Error(error)) => Err(Failure::call("flock", &self.join(LOCK_FILE), error)),
        }
    }
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
