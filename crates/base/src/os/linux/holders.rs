//! The sockets that are bound to a socket file, and the processes that hold these sockets.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, lstat, stat};

use super::sock_diag::{
    ALL_STATES, ATTR_NAME, ATTR_VFS, ESTABLISHED, NLM_F_DUMP, SHOW_NAME, SHOW_VFS, SOCKET_INODE, SOCKET_STATE, SOCKET_TYPE, attribute,
    query, u32_at,
};
use crate::os::Held;

/// Whether a process holds, or may hold, a socket that is bound to this file, listening or not. A symlink counts as its target.
///
/// # Errors
/// Errors of stat(2), of the request, and of /proc/net/unix.
pub fn is_held(path: &Path) -> io::Result<Held> {
    Ok(sockets_at(path)?.iter().map(|socket| socket.held).max().unwrap_or(Held::No))
}

/// The processes that hold a socket bound to this file, as far as this user may read their descriptors. The scan reads the
/// descriptors of all processes: use it only if a socket is held and no peer pid is known.
pub fn holders(path: &Path) -> Vec<i32> {
    let Ok(sockets) = sockets_at(path) else { return Vec::new() };
    let certain = sockets.iter().filter(|socket| socket.held == Held::Yes);
    let wanted: Vec<String> = certain.map(|socket| format!("socket:[{}]", socket.inode)).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
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

/// A socket that is, or may be, bound to a file.
struct BoundSocket {
    /// Of the socket itself, as in /proc/PID/fd.
    inode: u32,
    held: Held,
}

/// The sockets that are bound to this file. An accepted connection has its listener's address but does not count: a new client
/// can't reach it.
fn sockets_at(path: &Path) -> io::Result<Vec<BoundSocket>> {
    let file = stat(path)?;
    match sockets_by_inode(path, &file) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => {
            // A seccomp filter refuses AF_NETLINK, or the kernel has no unix_diag: compare the names in /proc/net/unix.
            sockets_by_name(path, &file)
        }
        found => found,
    }
}

fn sockets_by_inode(path: &Path, file: &FileStat) -> io::Result<Vec<BoundSocket>> {
    let device = kernel_device(file.st_dev);
    // On btrfs and overlayfs stat(2) reports another device than unix_diag, which reports the device of the mount.
    let mut mount: Option<Option<u32>> = None;
    let mut found = Vec::new();
    query(0, NLM_F_DUMP, ALL_STATES, SHOW_NAME | SHOW_VFS, |answer, attributes| {
        let Some(vfs) = attribute(attributes, ATTR_VFS) else { return };
        let is_datagram = answer.get(SOCKET_TYPE).is_some_and(|kind| i32::from(*kind) == libc::SOCK_DGRAM);
        if !is_datagram && answer.get(SOCKET_STATE) == Some(&ESTABLISHED) {
            return;
        }
        let (Some(inode), Some(bound_to), Some(on)) = (u32_at(answer, SOCKET_INODE), u32_at(vfs, 0), u32_at(vfs, 4)) else { return };
        if bound_to != kernel_inode(file.st_ino) {
            return;
        }
        let held = if on == device {
            Held::Yes
        } else {
            let name = attribute(attributes, ATTR_NAME).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default();
            match mount.get_or_insert_with(|| mount_device(path)) {
                Some(mount) if *mount != on => Held::No,
                mount => match file_at(name) {
                    Some(named) if same_file(&named, file) => Held::Yes,
                    // The inode of another file system, or of another subvolume of the same one.
                    Some(named) if kernel_inode(named.st_ino) == bound_to => Held::No,
                    // The file was renamed, so its name proves nothing.
                    _ if mount.is_some() => Held::Yes,
                    _ => Held::Unknown,
                },
            }
        };
        if held != Held::No {
            found.push(BoundSocket { inode, held });
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

fn sockets_by_name(path: &Path, file: &FileStat) -> io::Result<Vec<BoundSocket>> {
    let text = fs::read("/proc/net/unix")?;
    let sockets: Vec<NamedSocket> = text.split(|byte| *byte == b'\n').skip(1).filter_map(NamedSocket::parse).collect();
    let held = |socket: &NamedSocket| {
        if may_name_file(socket.name, path, file) {
            Held::Yes
        } else if socket.kind == STREAM && !socket.listens && !socket.accounts_for(&sockets) {
            // The file was renamed, and may be this one. A listener would accept the connection, and a socket of another type
            // gives EPROTOTYPE, so only a stream socket that does not listen is in doubt.
            Held::Unknown
        } else {
            Held::No
        }
    };
    let found = sockets.iter().map(|socket| BoundSocket { inode: socket.inode, held: held(socket) });
    Ok(found.filter(|socket| socket.held != Held::No).collect())
}

/// Whether `name`, the address of a socket, is a name of the file at `path`. If only the file names can be compared, equal file
/// names count as yes: a wrong yes leaves a dead file, a wrong no takes the socket from its holder.
fn may_name_file(name: &[u8], path: &Path, file: &FileStat) -> bool {
    match file_at(name) {
        Some(named) => same_file(&named, file),
        // The file was renamed or moved, is in another mount namespace, or its name is relative to an unknown folder.
        None => Path::new(OsStr::from_bytes(name)).file_name() == path.file_name(),
    }
}

/// The file at the address of a socket. `None` if the address is relative to an unknown folder.
fn file_at(name: &[u8]) -> Option<FileStat> {
    let name = Path::new(OsStr::from_bytes(name));
    if name.is_absolute() { lstat(name).ok() } else { None }
}

const fn same_file(a: &FileStat, b: &FileStat) -> bool {
    a.st_dev == b.st_dev && a.st_ino == b.st_ino
}

/// The device of the mount that has this file, as the kernel knows it. `None` if /proc doesn't tell.
fn mount_device(path: &Path) -> Option<u32> {
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
fn kernel_device(device: u64) -> u32 {
    (libc::major(device) << 20) | libc::minor(device)
}

/// unix_diag reports the lower 32 bits of the inode.
#[expect(clippy::cast_possible_truncation, reason = "the kernel truncates as well")]
const fn kernel_inode(inode: u64) -> u32 {
    inode as u32
}

/// The process that locked this file with flock(2), as long as it has the file open. `None` also if the process is in another
/// pid namespace, or if only duplicates of its descriptor are left.
pub fn flock_holder(file: &fs::File) -> Option<i32> {
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
    let has_open = |pid: &i32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let open = |descriptor: fs::DirEntry| fs::metadata(descriptor.path()).ok().map(|open| (open.dev(), open.ino()));
        descriptors.filter_map(open).any(|open| open == (wanted.dev(), wanted.ino()))
    };
    pids.into_iter().find(has_open)
}
