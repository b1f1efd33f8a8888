//! Changes in a folder, by kqueue(2) and EVFILT_VNODE.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::kqueue;

/// The id of a watch: the descriptor of its folder.
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
        let folder = OpenOptions::new().read(true).custom_flags(libc::O_EVTONLY | libc::O_CLOEXEC).open(folder)?;
        let key = usize::try_from(folder.as_raw_fd()).map_err(io::Error::other)?;
        kqueue::add(&self.queue, key, libc::EVFILT_VNODE, libc::NOTE_WRITE)?;
        self.lock().insert(key, folder);
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

impl AsRawFd for FolderWatcher {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.as_raw_fd()
    }
}
