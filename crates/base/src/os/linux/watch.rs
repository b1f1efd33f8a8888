//! Tells when something appears in a folder (inotify(7)).
//!
//! One instance serves the whole process: closing one waits for a grace period of the kernel's, some
//! milliseconds, and a user may have only 128.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Names one watched folder; the same for every watch of that folder.
pub type Key = WatchDescriptor;

/// Readable when there is something for [`Self::changed`].
pub struct FolderWatcher(Inotify);

impl FolderWatcher {
    /// # Errors
    /// EMFILE where the user's instances or the process's descriptors are used up.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?))
    }

    /// # Errors
    /// ENOENT; ENOSPC where the user's watches are used up.
    pub fn add(&self, folder: &Path) -> io::Result<Key> {
        let interest = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_ONLYDIR;
        Ok(self.0.add_watch(folder, interest)?)
    }

    pub fn remove(&self, key: Key) -> io::Result<()> {
        match self.0.rm_watch(key) {
            // The folder is gone, and its watch with it.
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The folders with news, `None` among them for any; or that there are no more news. What they are doesn't
    /// matter: an event means "look".
    pub fn changed(&self) -> io::Result<Option<Vec<Option<Key>>>> {
        match self.0.read_events() {
            Ok(events) => {
                let news = events.into_iter().filter(|event| !event.mask.contains(AddWatchFlags::IN_IGNORED));
                Ok(Some(news.map(|event| (!event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)).then_some(event.wd)).collect()))
            }
            Err(Errno::EINTR) => Ok(Some(Vec::new())),
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsRawFd for FolderWatcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
