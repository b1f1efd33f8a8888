//! A plugin's folder below `envsDir`: its lock, `daemon.pid`, and `daemon.id`.
//!
//! No symlink below `envsDir` is followed. Each file is written whole or not at all: a temporary file, then rename(2).

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::envs_dir::{foreign, make_envs_dir};
use super::{Held, Lock};
use crate::error::{Failure, FileProblem};
use crate::model::Pid;
use ally_base::record::{IDENTITY_FILE, Identity, LOCK_FILE, LockNote, PID_FILE, parse_pid};

const PERMISSIONS: Mode = Mode::S_IRWXU.union(Mode::S_IRWXG).union(Mode::S_IRWXO);
const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// Anything longer was not written by us.
const READ_MAX: u64 = 4096;

/// The folder of one plugin, opened without following a link.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Makes it, and what is above it, for this user alone.
    ///
    /// # Errors
    /// `Io` with the path: it can't be made, is a link, is no folder, or belongs to someone else.
    pub fn open(envs_dir: &Path, plugin: &str) -> Result<Self, Failure> {
        let path = envs_dir.join(plugin);
        make_envs_dir(envs_dir)?;
        let made = match mkdirat(AT_FDCWD, &path, Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(Failure::call("mkdir", &path, error)),
        };
        if made {
            // Whatever the umask, which may even keep us out. Nobody else may write in the folder above, so that nobody can
            // have put a link in its place.
            fchmodat(AT_FDCWD, &path, Mode::S_IRWXU, FchmodatFlags::FollowSymlink).map_err(|error| Failure::call("chmod", &path, error))?;
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
        // One that was there may be open to others, who could swap our files in it.
        let mode = Mode::from_bits_truncate(stat.st_mode);
        let wanted = mode.intersection(Mode::S_IRWXU);
        if mode & PERMISSIONS != wanted & PERMISSIONS {
            fchmod(&fd, wanted & PERMISSIONS).map_err(|error| Failure::call("fchmod", &path, error))?;
        }
        Ok(Self { fd, path })
    }

    /// Whether its path still leads to it: a plugin that is installed anew gets another folder.
    pub fn is_in_place(&self) -> bool {
        let (Ok(here), Ok(there)) = (fstat(&self.fd), nix::sys::stat::lstat(&self.path)) else { return false };
        (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    }

    /// For the keeper, which must find it whatever becomes of its path.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens, or makes, a plain file of ours.
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

    /// The text of a file, if there is one; links, folders and other oddities count as none. One that is
    /// there and can't be read is an error: what it says must not be forgotten.
    fn read(&self, name: &str) -> Result<Option<String>, Failure> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            // A socket is ENXIO on Linux and EOPNOTSUPP on macOS.
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
        // Left by one that was killed between these two steps. The lock is ours, so nobody else is writing.
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
            // What is not there need not be removed, whatever stands against it (EROFS comes first).
            Err(_) if fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(Failure::call("unlink", &self.join(name), error)),
        }
    }

    /// Whatever else it holds, a pid file is no identity. The TypeScript original's holds a pid alone.
    pub fn read_pid(&self) -> Result<Option<Pid>, Failure> {
        Ok(self.read(PID_FILE)?.and_then(|text| parse_pid(&text)))
    }

    pub fn read_identity(&self) -> Result<Option<Identity>, Failure> {
        Ok(self.read(IDENTITY_FILE)?.and_then(|text| Identity::parse(&text)))
    }

    /// Refuses early what a rename would refuse late.
    ///
    /// # Errors
    /// `Io` if a folder is in the place of one of our files.
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

    /// The identity first: a pid file without one would count for less.
    pub fn record(&self, identity: &Identity) -> Result<(), Failure> {
        self.write(IDENTITY_FILE, &identity.to_string())?;
        self.write(PID_FILE, &format!("{}\n", identity.leader))
    }

    /// Both, even where one can't be removed.
    pub fn remove_record(&self) -> Result<(), Failure> {
        let pid = self.remove(PID_FILE);
        self.remove(IDENTITY_FILE).and(pid)
    }

    /// Takes the plugin's lock, or says who has it.
    ///
    /// # Errors
    /// `Io`.
    pub fn try_lock(&self) -> Result<Result<Lock, Held>, Failure> {
        let mut file = self.open_file(LOCK_FILE, OFlag::O_RDWR | OFlag::O_CREAT)?;
        match file.try_lock() {
            Ok(()) => Ok(Ok(Lock::of(file))),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.rewind().and_then(|()| (&file).take(READ_MAX).read_to_string(&mut text));
                let note = read.map_or(LockNote::Nobody, |_| LockNote::parse(&text));
                Ok(Err(Held { note, file }))
            }
            Err(TryLockError::Error(error)) => Err(Failure::call("flock", &self.join(LOCK_FILE), error)),
        }
    }
}
