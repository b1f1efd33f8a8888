//! The host's files: a folder in `envsDir` with `host.lock` and `host.sock`.
//!
//! Only the holder of the lock makes, renames and removes the socket.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use ally_base::os;
use ally_base::record::{Elsewhere, elsewhere, own_place};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::config::{ProcessConfig, difference};
use crate::error::Failure;
use crate::model::Pid;
use crate::supervisor::{Folder, dial, read_note};

const LOCK: &str = "host.lock";
pub const SOCKET: &str = "host.sock";

/// The tries, if another process replaces the lock file between open(2) and flock(2).
const LOCK_ATTEMPTS: u32 = 3;

/// The name of the folder of this user's host.
pub fn folder_name() -> String {
    format!(".ally-host-{}", geteuid())
}

/// The note in the lock file: who starts a host, or is the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub pid: Pid,
    pub start: u64,
    place: String,
}

impl Note {
    /// `host PID START BUILD`, then the place in which the pid counts.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.splitn(5, ' ');
        if words.next()? != "host" {
            return None;
        }
        let (pid, start) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let place = words.nth(1).unwrap_or_default().to_owned();
        Some(Self { pid, start, place })
    }

    /// Where the note was written, if that is another container or another machine.
    pub fn elsewhere(&self) -> Option<Elsewhere> {
        // Without a descriptor for /proc nothing can be said, and neither without a place.
        own_place().ok().filter(|_| !self.place.is_empty()).and_then(|own| elsewhere(&self.place, own))
    }
}

/// The note in the lock of the host below this folder. Creates nothing, and takes no lock.
pub fn note(envs_dir: &Path) -> Option<Note> {
    let file = File::open(envs_dir.join(folder_name()).join(LOCK)).ok()?;
    Note::parse(&read_note(&file))
}

/// Writes the note of this process into a lock file that it holds.
///
/// # Errors
/// Errors of pwrite(2) and ftruncate(2).
pub fn write_note(lock: &File, build: &str) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let start = os::start_time(os::own_pid()).unwrap_or_default();
    let note = format!("host {} {start} {build} {}\n", os::own_pid(), own_place().unwrap_or_default());
    // Overwrite, then truncate: a full disk has no room for a new file.
    lock.write_all_at(note.as_bytes(), 0)?;
    lock.set_len(note.len() as u64)
}

/// The folder of the host.
#[derive(Debug)]
pub struct Place {
    folder: Folder,
}

impl Place {
    /// Opens the folder. Creates it and its missing parents.
    ///
    /// # Errors
    /// As [`Folder::open`]; `InvalidConfig` if the path of the socket does not fit into an address.
    pub fn open(envs_dir: &Path) -> Result<Self, Failure> {
        let place = Self { folder: Folder::open(envs_dir, &folder_name())? };
        let length = place.address(SOCKET).as_os_str().len();
        if length > ADDRESS_MAX {
            let problem =
                format!("is too long for shared plugins: the socket of their host has a path of {length} bytes, at most {ADDRESS_MAX}");
            return Err(Failure::InvalidConfig { field: "envsDir".to_owned(), problem });
        }
        Ok(place)
    }

    /// Whether there is a socket. Creates nothing.
    pub fn has_socket(envs_dir: &Path) -> bool {
        std::fs::symlink_metadata(envs_dir.join(folder_name()).join(SOCKET)).is_ok()
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn as_file(&self) -> &File {
        self.folder.as_file()
    }

    fn address(&self, name: &str) -> std::path::PathBuf {
        os::folder_address(self.folder.as_file(), self.folder.path(), name)
    }

    /// A connection to the socket. Does not wait.
    ///
    /// # Errors
    /// ENOENT, ECONNREFUSED, EAGAIN if the queue is full.
    pub fn connect(&self) -> Result<UnixStream, Errno> {
        dial(&self.address(SOCKET)).map(UnixStream::from)
    }

    /// Takes the lock. `None` if another process holds it.
    ///
    /// # Errors
    /// `Io`.
    pub fn try_lock(&self) -> Result<Option<File>, Failure> {
        for _ in 0..LOCK_ATTEMPTS {
            let file = self.folder.open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)?;
            match file.try_lock() {
                Ok(()) if self.names(LOCK, &file) => return Ok(Some(file)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(Failure::call("flock", &self.folder.join(LOCK), error)),
            }
        }
        Err(Failure::io(&self.folder.join(LOCK), "was replaced again and again"))
    }

    /// The note of the lock's holder.
    pub fn note(&self) -> Option<Note> {
        Note::parse(&read_note(&self.folder.open_file(LOCK, OFlag::O_RDONLY).ok()?))
    }

    /// Makes the socket anew. Only for the holder of the lock.
    ///
    /// # Errors
    /// `Io`: the file system can't hold sockets, or is full.
    pub fn bind(&self) -> Result<UnixListener, Failure> {
        let temporary = format!("{SOCKET}.{}", os::own_pid());
        let path = self.folder.join(&temporary);
        self.remove(&temporary).map_err(|error| Failure::call("unlink", &path, error))?;
        let listener = UnixListener::bind(self.address(&temporary)).map_err(|error| Failure::call("bind", &path, error))?;
        let folder = self.folder.as_file();
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        fchmodat(folder, temporary.as_str(), private, FchmodatFlags::FollowSymlink)
            .map_err(|error| Failure::call("chmod", &path, error))?;
        renameat(folder, temporary.as_str(), folder, SOCKET).map_err(|error| Failure::call("rename", &path, error))?;
        Ok(listener)
    }

    /// The identity of the socket's file: device and inode.
    pub fn socket_id(&self) -> Option<(u64, u64)> {
        self.id_of(SOCKET)
    }

    fn id_of(&self, name: &str) -> Option<(u64, u64)> {
        let found = fstatat(self.folder.as_file(), name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((found.st_dev as u64, found.st_ino))
    }

    /// Whether the name leads to this open file, in the folder that has the path now.
    fn names(&self, name: &str, file: &File) -> bool {
        file.metadata().is_ok_and(|found| self.id_of(name) == Some((found.dev(), found.ino())))
    }

    /// Whether socket and lock are still those of this host.
    pub fn is_intact(&self, lock: &File, socket: (u64, u64)) -> bool {
        let has_names = [LOCK, SOCKET].iter().all(|name| os::has_name(self.folder.as_file(), Path::new(name)));
        has_names && self.folder.is_in_place() && self.names(LOCK, lock) && self.socket_id() == Some(socket)
    }

    /// Removes the socket, if it is still this one. Only for the holder of the lock.
    pub fn remove_socket(&self, socket: (u64, u64)) {
        if self.socket_id() == Some(socket)
            && let Err(error) = self.remove(SOCKET)
        {
            tracing::debug!(target: crate::supervisor::TARGET, %error, "the socket of the host could not be removed");
        }
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        match unlinkat(self.folder.as_file(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The size of `sun_path` without the final NUL.
const ADDRESS_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// A descriptor that this process has inherited.
///
/// # Errors
/// EBADF.
pub fn inherited(raw: i32) -> io::Result<OwnedFd> {
    // A duplicate above the standard ones, closed at execve(2).
    // SAFETY: integers only.
    let copy = unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just opened this descriptor, and no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The fields in which two configurations of a shared plugin differ. Folders are looked at only if the texts differ.
pub fn differing_fields(one: &ProcessConfig, other: &ProcessConfig) -> Vec<String> {
    if difference(one, other, &Path::to_owned).is_empty() {
        return Vec::new();
    }
    difference(one, other, &|folder| folder.canonicalize().unwrap_or_else(|_| folder.to_owned()))
}
