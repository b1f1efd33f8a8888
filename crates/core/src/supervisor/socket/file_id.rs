//! Tells one socket file from the next.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file system may give the next file the same inode, so the time of the last change counts as well.
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

    /// `None` if there is no file.
    pub fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|file| Self::of(&file))
    }
}
