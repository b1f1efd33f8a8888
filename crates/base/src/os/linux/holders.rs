//! The sockets that are bound to a socket file, and the processes that hold these sockets.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag};

use super::descriptors::all_that_have_open;
use super::sock_diag::{
    ALL_STATES, ATTR_NAME, ATTR_VFS, ESTABLISHED, LISTEN, NLM_F_DUMP, SHOW_NAME, SHOW_VFS, SOCKET_INODE, SOCKET_STATE, SOCKET_TYPE,
    attribute, query, u32_at,
};
use super::socket_file::{SocketFile, file_at, kernel_device, mount_device};
use crate::os::{Bound, Held};

/// Whether a process holds, or may hold, a socket that is bound to this file, listening or not. A symlink counts as its target.
///
/// # Errors
/// Errors of stat(2), of the request, and of /proc/net/unix.
pub fn is_held(path: &Path) -> io::Result<Held> {
    Ok(sockets_at(path)?.iter().map(|socket| socket.held).max().unwrap_or(Held::No))
}

/// The socket that is bound to this file, if no process of the tree listens there. The other parameters are for systems on which
/// only the sockets of a process can be listed.
///
/// # Errors
/// As [`is_held`].
pub fn bound_socket(path: &Path, _keeper: i32, _leader: i32) -> io::Result<Bound> {
    let mut sockets = sockets_at(path)?;
    // A socket that may be bound to another file is no answer, here as in `Listeners`.
    sockets.retain(|socket| socket.held == Held::Yes);
    Ok(if sockets.iter().any(|socket| socket.listens) {
        Bound::Listening
    } else if sockets.iter().any(|socket| socket.is_datagram) {
        Bound::Datagram
    } else if sockets.is_empty() {
        Bound::Unknown
    } else {
        Bound::NotListening
    })
}

/// The processes that hold a socket bound to this file, as far as this user may read their descriptors. The scan reads the
/// descriptors of all processes: use it only if a socket is held and no peer pid is known.
pub fn holders(path: &Path) -> Vec<i32> {
    let Ok(wanted) = sockets_bound_to(path) else { return Vec::new() };
    if wanted.is_empty() { Vec::new() } else { all_that_have_open(&wanted) }
}

/// The inodes of the sockets that are certainly bound to this file.
pub fn sockets_bound_to(path: &Path) -> io::Result<Vec<u32>> {
    let certain = sockets_at(path)?.into_iter().filter(|socket| socket.held == Held::Yes);
    Ok(certain.map(|socket| socket.inode).collect())
}

/// A socket that is, or may be, bound to a file.
struct BoundSocket {
    /// Of the socket itself, as in /proc/PID/fd.
    inode: u32,
    held: Held,
    is_datagram: bool,
    listens: bool,
}

/// The sockets that are bound to this file. An accepted connection has its listener's address but does not count: a new client
/// can't reach it.
fn sockets_at(path: &Path) -> io::Result<Vec<BoundSocket>> {
    let file = SocketFile::at(path)?;
    match sockets_by_inode(&file) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => {
            // A seccomp filter refuses AF_NETLINK, or the kernel has no unix_diag: compare the names in /proc/net/unix.
            sockets_by_name(&file)
        }
        found => found,
    }
}

fn sockets_by_inode(file: &SocketFile) -> io::Result<Vec<BoundSocket>> {
    let mut found = Vec::new();
    query(0, NLM_F_DUMP, ALL_STATES, SHOW_NAME | SHOW_VFS, |answer, attributes| {
        let (Some(vfs), Some(kind)) = (attribute(attributes, ATTR_VFS), answer.get(SOCKET_TYPE)) else { return };
        let (Some(state), Some(inode)) = (answer.get(SOCKET_STATE), u32_at(answer, SOCKET_INODE)) else { return };
        let (Some(bound_to), Some(device)) = (u32_at(vfs, 0), u32_at(vfs, 4)) else { return };
        let is_datagram = i32::from(*kind) == libc::SOCK_DGRAM;
        if !is_datagram && *state == ESTABLISHED {
            return;
        }
        let held = file.is_bound_by(bound_to, device, || attribute(attributes, ATTR_NAME).unwrap_or_default().to_vec());
        if held != Held::No {
            found.push(BoundSocket { inode, held, is_datagram, listens: *state == LISTEN });
        }
    })?;
    Ok(found)
}

/// A line of /proc/net/unix. Its fields: number, references, protocol, flags, type, state, inode, name.
struct NamedSocket<'a> {
    kind: &'a [u8],
    inode: u32,
    name: &'a [u8],
    listens: bool,
}

impl<'a> NamedSocket<'a> {
    /// `None` if the socket has no name in the file system, or is an accepted connection.
    fn parse(line: &'a [u8]) -> Option<Self> {
        const CONNECTED: &[u8] = b"03";
        /// `__SO_ACCEPTCON` of linux/net.h.
        const LISTENS: &[u8] = b"00010000";
        let mut rest = line;
        let [_, _, _, flags, kind, state, inode] = [(); 7].map(|()| {
            rest = rest.trim_ascii_start();
            let (field, after) = rest.split_at(rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len()));
            rest = after;
            field
        });
        let name = rest.get(1..).filter(|name| !name.is_empty() && !name.starts_with(b"@"))?;
        let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
        (kind == DATAGRAM || state != CONNECTED).then_some(Self { kind, inode, name, listens: flags == LISTENS })
    }

    /// Whether the socket's name leads to a socket. Of several sockets with one name, the name says only of one whose file it is.
    fn accounts_for(&self, all: &[Self]) -> bool {
        let alone = all.iter().filter(|other| other.name == self.name).count() == 1;
        let is_socket = |file: FileStat| SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK;
        alone && file_at(self.name).is_some_and(is_socket)
    }
}

const DATAGRAM: &[u8] = b"0002";
const STREAM: &[u8] = b"0001";

fn sockets_by_name(file: &SocketFile) -> io::Result<Vec<BoundSocket>> {
    let text = fs::read("/proc/net/unix")?;
    let sockets: Vec<NamedSocket> = text.split(|byte| *byte == b'\n').skip(1).filter_map(NamedSocket::parse).collect();
    let held = |socket: &NamedSocket| {
        if file.may_have_name(socket.name) {
            Held::Yes
        } else if socket.kind == STREAM && !socket.listens && !socket.accounts_for(&sockets) {
            // The file was renamed, and may be this one. A listener would accept the connection, and a socket of another type
            // gives EPROTOTYPE, so only a stream socket that does not listen is in doubt.
            Held::Unknown
        } else {
            Held::No
        }
    };
    let found = sockets.iter().map(|socket| BoundSocket {
        inode: socket.inode,
        held: held(socket),
        is_datagram: socket.kind == DATAGRAM,
        listens: socket.listens,
    });
    Ok(found.filter(|socket| socket.held != Held::No).collect())
}

/// The process that locked this file with flock(2), as long as it has the file open. `None` also if the process is in another
/// pid namespace, or if only duplicates of its descriptor are left.
pub fn flock_holder(file: &fs::File) -> Option<i32> {
    let wanted = file.metadata().ok()?;
    let has_open = |pid: &i32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let open = |descriptor: fs::DirEntry| fs::metadata(descriptor.path()).ok().map(|open| (open.dev(), open.ino()));
        descriptors.filter_map(open).any(|open| open == (wanted.dev(), wanted.ino()))
    };
    flock_pids(file)?.into_iter().find(has_open)
}

/// Whether the kernel lists a flock(2) on this file. In a pid namespace the list has only the locks that living processes of the
/// namespace took. `None` if the list can't be read.
pub fn is_flocked(file: &fs::File) -> Option<bool> {
    flock_pids(file).map(|pids| !pids.is_empty())
}

/// The pids of the processes that took a flock(2) on this file.
fn flock_pids(file: &fs::File) -> Option<Vec<i32>> {
    let wanted = file.metadata().ok()?;
    let devices = [Some(kernel_device(wanted.dev())), mount_device(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))];
    let locks = super::identity::read("/proc/locks").ok()?;
    // The fields of a line: number, kind, mode, access, pid, major:minor:inode, and others. A waiter has "->" before the kind.
    let pids = std::str::from_utf8(&locks).ok()?.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().filter(|kind| *kind == "FLOCK")?;
        let pid = fields.nth(2)?.parse().ok()?;
        let mut place = fields.next()?.split(':');
        let [major, minor] = [place.next()?, place.next()?].map(|number| u32::from_str_radix(number, 16).ok());
        let same = devices.contains(&Some((major? << 20) | minor?)) && place.next()?.parse() == Ok(wanted.ino());
        same.then_some(pid)
    });
    Some(pids.collect())
}
