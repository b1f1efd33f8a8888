//! How owner and log process open a log file: a plain file of this user with one name, for nobody else. The file may be in a
//! folder where others can write, so nothing is trusted before it was checked.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::geteuid;

/// Permissions of a log file.
pub const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
const PERMISSIONS: Mode = Mode::S_IRWXU.union(Mode::S_IRWXG).union(Mode::S_IRWXO);

/// Why a file is no log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    Link,
    /// A folder, a pipe, a socket or a device.
    NotPlain,
    /// It belongs to this user.
    Foreign(u32),
    /// It has another name as well.
    Named,
    Refused(Errno),
}

impl From<Errno> for Unfit {
    fn from(errno: Errno) -> Self {
        if errno == Errno::ELOOP { Self::Link } else { Self::Refused(errno) }
    }
}

impl Unfit {
    /// The errno that describes the problem best.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Link => libc::ELOOP,
            Self::NotPlain => libc::EINVAL,
            Self::Foreign(_) => libc::EPERM,
            Self::Named => libc::EMLINK,
            Self::Refused(errno) => errno as i32,
        }
    }
}

/// # Errors
/// Errors of open(2).
pub fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens or makes the file for appending, and closes it to other users.
///
/// # Errors
/// The file is unfit.
pub fn open(folder: impl AsFd, name: &Path) -> Result<File, Unfit> {
    // open(2) of a device may act on it.
    match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(there) => check(&there)?,
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    open_with(folder, name, OFlag::O_CREAT)
}

/// As [`open`], for a file that does not exist yet.
///
/// # Errors
/// EEXIST, or the file is unfit.
pub fn create(folder: impl AsFd, name: &Path) -> Result<File, Unfit> {
    open_with(folder, name, OFlag::O_CREAT | OFlag::O_EXCL)
}

/// What names a file while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId(libc::dev_t, libc::ino_t);

impl FileId {
    /// # Errors
    /// Errors of fstat(2).
    pub fn of(file: &File) -> Result<Self, Errno> {
        let held = fstat(file)?;
        Ok(Self(held.st_dev, held.st_ino))
    }
}

/// Whether this file is at its place. Somebody may have moved or removed it.
///
/// # Errors
/// Errors of fstat(2) and fstatat(2). ENOENT is none: the file is not there.
pub fn is_at(folder: impl AsFd, name: &Path, file: &File) -> Result<bool, Errno> {
    Ok(size_at(folder, name, FileId::of(file)?)?.is_some())
}

/// The size of this file, if it is at its place.
///
/// # Errors
/// Errors of fstatat(2). ENOENT is none.
pub fn size_at(folder: impl AsFd, name: &Path, file: FileId) -> Result<Option<u64>, Errno> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(there) if FileId(there.st_dev, there.st_ino) == file => Ok(Some(u64::try_from(there.st_size).unwrap_or_default())),
        Ok(_) | Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn open_with(folder: impl AsFd, name: &Path, flags: OFlag) -> Result<File, Unfit> {
    // Readable, because the log process looks at the last byte.
    let flags = flags | OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = openat(folder, name, flags, PRIVATE)?;
    let stat = fstat(&file)?;
    check(&stat)?;
    if Mode::from_bits_truncate(stat.st_mode) & PERMISSIONS != PRIVATE {
        fchmod(&file, PRIVATE)?;
    }
    Ok(File::from(file))
}

fn check(stat: &FileStat) -> Result<(), Unfit> {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFLNK {
        return Err(Unfit::Link);
    }
    if kind != SFlag::S_IFREG {
        return Err(Unfit::NotPlain);
    }
    if stat.st_uid != geteuid().as_raw() {
        return Err(Unfit::Foreign(stat.st_uid));
    }
    if stat.st_nlink > 1 { Err(Unfit::Named) } else { Ok(()) }
}
