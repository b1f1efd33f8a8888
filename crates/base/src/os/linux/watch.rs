//! Changes in a folder and of the names of a file, by inotify(7).
//!
//! A process needs a single instance: close(2) of an instance takes some milliseconds (an RCU grace period of the kernel), and a
//! user may have 128 instances (`fs.inotify.max_user_instances`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::stat::fstatat;
use nix::unistd::linkat;

/// The id of a watched folder or file. All watches of a folder have the same id.
pub type Key = WatchDescriptor;

/// Its descriptor is readable while [`Self::changed`] has events to return.
pub struct FolderWatcher(Inotify);

impl FolderWatcher {
    /// # Errors
    /// EMFILE if the user's inotify instances or the process's descriptors are used up.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?))
    }

    /// # Errors
    /// ENOENT. ENOSPC if the user's inotify watches are used up.
    pub fn add(&self, folder: &Path) -> io::Result<Key> {
        let interest = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_ONLYDIR;
        Ok(self.0.add_watch(folder, interest)?)
    }

    /// Watches the names of an open file or folder. An event follows when one is removed, renamed or replaced, and when the mode changes.
    ///
    /// # Errors
    /// ENOSPC if the user's inotify watches are used up.
    pub fn add_file(&self, file: &File) -> io::Result<Key> {
        // The number of names is an attribute of the file.
        let interest = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MOVE_SELF;
        // The path leads to this very file, although its name may be another file's by now.
        Ok(self.0.add_watch(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str(), interest)?)
    }

    /// Watches the names of a socket's file, as [`Self::add_file`]. A symlink is not followed.
    ///
    /// # Errors
    /// ENOENT. ENOSPC if the user's inotify watches are used up.
    pub fn add_socket(&self, path: &Path) -> io::Result<Key> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        self.add_file(&OpenOptions::new().read(true).custom_flags(flags).open(path)?)
    }

    pub fn remove(&self, key: Key) -> io::Result<()> {
        match self.0.rm_watch(key) {
            // EINVAL: the folder was removed, and the kernel removed the watch.
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The folders and files with events. A `None` in the list means that the queue overflowed, so each may have changed. The result
    /// is `None` if no event is left. The kind of an event is not reported: the caller reads the folder.
    pub fn changed(&self) -> io::Result<Option<Vec<Option<Key>>>> {
        match self.0.read_events() {
            Ok(events) => {
                let changes = events.into_iter().filter(|event| !event.mask.contains(AddWatchFlags::IN_IGNORED));
                Ok(Some(changes.map(|event| (!event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)).then_some(event.wd)).collect()))
            }
            Err(Errno::EINTR) => Ok(Some(Vec::new())),
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the folder has this name, a dangling symlink included. After an event of the file, stat(2) may find a name that is gone a
/// moment later, without a further event: the kernel tells of a removal before the end of the name. This waits for that end.
pub fn has_name(folder: impl AsFd, name: &Path) -> bool {
    // It locks the folder, as the removal does, and looks whether the name is free. A link to a folder is then refused.
    linkat(AT_FDCWD, "/", &folder, name, AtFlags::empty()) == Err(Errno::EEXIST)
        // Where link(2) is forbidden, this is all that can be done.
        || fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

impl AsRawFd for FolderWatcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
