//! Whether a socket that the kernel shows is bound to a file.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, lstat};

use crate::os::Held;

/// A file that stat(2) has found, so a symlink counts as its target.
pub struct SocketFile<'a> {
    path: &'a Path,
    device: u64,
    inode: u64,
    /// The device of the file's mount, once it is needed.
    mount: OnceCell<Option<u32>>,
}

impl<'a> SocketFile<'a> {
    pub fn at(path: &'a Path) -> io::Result<Self> {
        fs::metadata(path).map(|file| Self::of(path, &file))
    }

    /// `file`: what stat(2) has found at `path`.
    pub fn of(path: &'a Path, file: &fs::Metadata) -> Self {
        Self { path, device: file.dev(), inode: file.ino(), mount: OnceCell::new() }
    }

    /// As unix_diag reports it.
    pub const fn inode(&self) -> u32 {
        kernel_inode(self.inode)
    }

    /// Whether a socket is bound to this file. `inode` and `device` are what unix_diag reports of the socket's file. `name` gives
    /// the socket's address, for file systems on which the device proves nothing.
    pub fn is_bound_by(&self, inode: u32, device: u32, name: impl FnOnce() -> Vec<u8>) -> Held {
        if inode != self.inode() {
            return Held::No;
        }
        if device == kernel_device(self.device) {
            return Held::Yes;
        }
        // On btrfs and overlayfs stat(2) reports another device than unix_diag, which reports the device of the mount.
        let mount = *self.mount.get_or_init(|| mount_device(self.path));
        if mount.is_some_and(|mount| mount != device) {
            return Held::No;
        }
        let name = name();
        match file_at(name.split(|byte| *byte == 0).next().unwrap_or_default()) {
            Some(named) if self.is(&named) => Held::Yes,
            // The inode of another file system, or of another subvolume of the same one.
            Some(named) if kernel_inode(named.st_ino) == inode => Held::No,
            // The file was renamed, so its name proves nothing.
            _ if mount.is_some() => Held::Yes,
            _ => Held::Unknown,
        }
    }

    /// Whether `name`, the address of a socket, is a name of this file. If only the file names can be compared, equal file names
    /// count as yes: a wrong yes leaves a dead file, a wrong no takes the socket from its holder.
    pub fn may_have_name(&self, name: &[u8]) -> bool {
        match file_at(name) {
            Some(named) => self.is(&named),
            // The file was renamed or moved, is in another mount namespace, or its name is relative to an unknown folder.
            None => Path::new(OsStr::from_bytes(name)).file_name() == self.path.file_name(),
        }
    }

    const fn is(&self, other: &FileStat) -> bool {
        other.st_dev == self.device && other.st_ino == self.inode
    }
}

/// The file at the address of a socket. `None` if the address is relative to an unknown folder.
pub fn file_at(name: &[u8]) -> Option<FileStat> {
    let name = Path::new(OsStr::from_bytes(name));
    if name.is_absolute() { lstat(name).ok() } else { None }
}

/// The device of the mount that has this file, as the kernel knows it. `None` if /proc doesn't tell.
pub fn mount_device(path: &Path) -> Option<u32> {
    let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = super::identity::read("/proc/self/mountinfo").ok()?;
    // The fields of a line: mount id, parent's id, major:minor, and others.
    let of_mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').filter_map(|field| std::str::from_utf8(field).ok());
        let (major, minor) = fields.next().filter(|field| *field == id).and_then(|_| fields.nth(1))?.split_once(':')?;
        Some((major.parse::<u32>().ok()? << 20) | minor.parse::<u32>().ok()?)
    };
    mounts.split(|byte| *byte == b'\n').find_map(of_mount)
}

/// The kernel's internal dev_t: 12 bits of major, 20 of minor (linux/kdev_t.h).
pub fn kernel_device(device: u64) -> u32 {
    (libc::major(device) << 20) | libc::minor(device)
}

/// unix_diag reports the lower 32 bits of the inode.
#[expect(clippy::cast_possible_truncation, reason = "the kernel truncates as well")]
const fn kernel_inode(inode: u64) -> u32 {
    inode as u32
}
