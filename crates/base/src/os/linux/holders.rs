//! The sockets that are bound to a socket file, and the processes that hold these sockets.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::stat::{FileStat, lstat, stat};

use super::sock_diag::{
    ALL_STATES, ATTR_NAME, ATTR_VFS, ESTABLISHED, NLM_F_DUMP, SHOW_NAME, SHOW_VFS, SOCKET_INODE, SOCKET_STATE, SOCKET_TYPE, attribute,
    query, u32_at,
};

/// Whether a process holds a socket that is bound to this file, listening or not. A symlink counts as its target.
pub fn is_held(path: &Path) -> io::Result<bool> {
    Ok(!sockets_at(path)?.is_empty())
}

/// The processes that hold a socket bound to this file, as far as this user may read their descriptors. The scan reads the
/// descriptors of all processes: use it only if a socket is held and no peer pid is known.
pub fn holders(path: &Path) -> Vec<i32> {
    let Ok(sockets) = sockets_at(path) else { return Vec::new() };
    let wanted: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holder = |process: fs::DirEntry| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let holds = descriptors.any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|target| wanted.iter().any(|wanted| target.as_os_str() == wanted.as_str()))
        });
        holds.then_some(pid)
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(holder).collect()
}

/// The inodes of the sockets that are bound to this file. An accepted connection has its listener's address but does not count:
/// a new client can't reach it.
fn sockets_at(path: &Path) -> io::Result<Vec<u32>> {
    let file = stat(path)?;
    match sockets_by_inode(path, &file) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => {
            // A seccomp filter refuses AF_NETLINK, or the kernel has no unix_diag: compare the names in /proc/net/unix.
            sockets_by_name(path, &file)
        }
        found => found,
    }
}

fn sockets_by_inode(path: &Path, file: &FileStat) -> io::Result<Vec<u32>> {
    let inode = u32::try_from(file.st_ino & u64::from(u32::MAX)).map_err(io::Error::other)?;
    let device = kernel_device(file.st_dev);
    let mut found = Vec::new();
    query(0, NLM_F_DUMP, ALL_STATES, SHOW_NAME | SHOW_VFS, |answer, attributes| {
        let Some(vfs) = attribute(attributes, ATTR_VFS) else { return };
        let is_datagram = answer.get(SOCKET_TYPE).is_some_and(|kind| i32::from(*kind) == libc::SOCK_DGRAM);
        if !is_datagram && answer.get(SOCKET_STATE) == Some(&ESTABLISHED) {
            return;
        }
        // On btrfs and overlayfs stat(2) reports another device than unix_diag.
        let same_file = || {
            let name = attribute(attributes, ATTR_NAME).and_then(|name| name.split(|byte| *byte == 0).next());
            u32_at(vfs, 4) == Some(device) || name.is_some_and(|name| may_name_file(name, path, file))
        };
        if u32_at(vfs, 0) == Some(inode) && same_file() {
            found.extend(u32_at(answer, SOCKET_INODE));
        }
    })?;
    Ok(found)
}

/// The fields of a line in /proc/net/unix: number, references, protocol, flags, type, state, inode, name.
fn sockets_by_name(path: &Path, file: &FileStat) -> io::Result<Vec<u32>> {
    const CONNECTED: &[u8] = b"03";
    const DATAGRAM: &[u8] = b"0002";
    let mut found = Vec::new();
    for line in fs::read("/proc/net/unix")?.split(|byte| *byte == b'\n').skip(1) {
        let mut rest = line;
        let [.., kind, state, inode] = [(); 7].map(|()| {
            rest = rest.trim_ascii_start();
            let (field, after) = rest.split_at(rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len()));
            rest = after;
            field
        });
        let holds = kind == DATAGRAM || state != CONNECTED;
        let inode = std::str::from_utf8(inode).ok().and_then(|inode| inode.parse().ok());
        if let Some(inode) = inode.filter(|_| holds && rest.get(1..).is_some_and(|name| may_name_file(name, path, file))) {
            found.push(inode);
        }
    }
    Ok(found)
}

/// Whether `name`, the address of a socket, is a name of the file at `path`. If only the file names can be compared, equal file
/// names count as yes: a wrong yes leaves a dead file, a wrong no takes the socket from its holder.
fn may_name_file(name: &[u8], path: &Path, file: &FileStat) -> bool {
    let bound = Path::new(OsStr::from_bytes(name));
    match lstat(bound) {
        Ok(named) if bound.is_absolute() => (named.st_dev, named.st_ino) == (file.st_dev, file.st_ino),
        // The file was renamed or moved, is in another mount namespace, or its name is relative to an unknown folder.
        Ok(_) | Err(_) => bound.file_name() == path.file_name(),
    }
}

/// The kernel's internal dev_t: 12 bits of major, 20 of minor (linux/kdev_t.h).
fn kernel_device(device: u64) -> u32 {
    (libc::major(device) << 20) | libc::minor(device)
}
