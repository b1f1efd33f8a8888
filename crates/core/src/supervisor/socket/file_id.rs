//! The identity of a socket file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file system may reuse the inode for the next file, so the time of the last status change (ctime) is part of the
/// identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFileId {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl SocketFileId {
    pub fn of(file: &fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) }
    }

    /// Of the file that stat(2) finds, so a symlink has the identity of its target.
    ///
    /// # Errors
    /// Errors of stat(2).
    pub fn find(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|file| Self::of(&file))
    }

    /// The same. `None` if there is no file.
    pub fn at(path: &Path) -> Option<Self> {
        Self::find(path).ok()
    }
}

/// The identity of a file as long as it is open or bound: its inode can't be another file's then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of the file that stat(2) finds.
    ///
    /// # Errors
    /// Errors of stat(2).
    pub fn find(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|file| Self::of(&file))
    }

    /// Of the file itself: a symlink is another file than its target.
    ///
    /// # Errors
    /// Errors of lstat(2).
    pub fn find_here(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|file| Self::of(&file))
    }

    fn of(file: &fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}
