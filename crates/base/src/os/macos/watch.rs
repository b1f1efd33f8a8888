//! Changes in a folder and of the names of a file, by kqueue(2) and EVFILT_VNODE.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::kqueue;

/// The id of a watch: the descriptor of its folder or file.
pub type Key = usize;

/// Its descriptor is readable while [`Self::changed`] has events to return.
pub struct FolderWatcher {
    queue: OwnedFd,
    /// The kernel removes a watch when its folder is closed.
    folders: Mutex<HashMap<Key, File>>,
}

impl FolderWatcher {
    pub fn new() -> io::Result<Self> {
        Ok(Self { queue: kqueue::new()?, folders: Mutex::default() })
    }

    pub fn add(&self, folder: &Path) -> io::Result<Key> {
        self.watch(OpenOptions::new().read(true).custom_flags(libc::O_EVTONLY | libc::O_CLOEXEC).open(folder)?, libc::NOTE_WRITE)
    }

    /// Watches the names of an open file or folder: an event follows when one is removed, renamed or replaced.
    pub fn add_file(&self, file: &File) -> io::Result<Key> {
        self.watch(file.try_clone()?, libc::NOTE_DELETE | libc::NOTE_LINK | libc::NOTE_RENAME)
    }

    /// Watches the folder of a socket's file, because a socket can't be opened.
    pub fn add_socket(&self, path: &Path) -> io::Result<Key> {
        self.add(path.parent().unwrap_or(path))
    }

    fn watch(&self, file: File, interest: u32) -> io::Result<Key> {
        let key = usize::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
        kqueue::add(&self.queue, key, libc::EVFILT_VNODE, interest)?;
        self.lock().insert(key, file);
        Ok(key)
    }

    pub fn remove(&self, key: Key) -> io::Result<()> {
        drop(self.lock().remove(&key));
        Ok(())
    }

    pub fn changed(&self) -> io::Result<Option<Vec<Option<Key>>>> {
        let keys = kqueue::take(&self.queue)?;
        Ok((!keys.is_empty()).then(|| keys.into_iter().map(Some).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, File>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the folder has this name, a dangling symlink included.
pub fn has_name(folder: impl AsFd, name: &Path) -> bool {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

impl AsRawFd for FolderWatcher {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.as_raw_fd()
    }
}
