//! What the kernel knows about Unix sockets, asked by sock_diag(7).
//!
//! A connection that waits in a listener's queue has a peer without an inode; the inode comes with
//! accept(2). So one question about our own end tells whether the daemon took the connection, and
//! the daemon need not do anything for it. (`sk_diag_dump_peer` in net/unix/diag.c, Linux 3.3.)

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{FileStat, fstat, lstat};
use once_cell::sync::OnceCell;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const SHOW_NAME: u32 = 1;
const SHOW_VFS: u32 = 2;
const SHOW_PEER: u32 = 4;
const ATTR_NAME: u16 = 0;
const ATTR_VFS: u16 = 1;
const ATTR_PEER: u16 = 2;
/// nlmsghdr (16 bytes) and unix_diag_req (24).
const REQUEST: usize = 40;
/// nlmsghdr and unix_diag_msg (16).
const ANSWER: usize = 32;
/// Where unix_diag_msg has the socket's type, its state and its own inode.
const SOCKET_TYPE: usize = 17;
const SOCKET_STATE: usize = 18;
const SOCKET_INODE: usize = 20;
/// What an accepted connection and its far end are (net/tcp_states.h); a listener is not, nor what is only bound.
const ESTABLISHED: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptState {
    Waiting,
    Accepted,
}

/// Whether [`accept_state`] can be answered here: asked once, on a connection of our own.
pub fn accept_queue_is_visible() -> bool {
    static VISIBLE: OnceCell<bool> = OnceCell::new();
    let asked = VISIBLE.get_or_try_init(|| {
        let (here, _there) = std::os::unix::net::UnixStream::pair()?;
        match accept_state(&here) {
            Ok(taken) => Ok(taken == AcceptState::Accepted),
            // Out of descriptors at this moment: no answer for ever.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => Err(error),
            Err(_) => Ok(false),
        }
    });
    // Where it can't be asked now, it is found out when it is needed.
    asked.is_ok_and(|visible| *visible) || VISIBLE.get().is_none()
}

/// Whether the listener has accepted this connected client. Once either side has hung up the kernel
/// can't tell any more; a caller looks for that on the socket itself, first.
pub fn accept_state(client: &(impl AsFd + AsRawFd)) -> io::Result<AcceptState> {
    let inode = u32::try_from(fstat(client)?.st_ino).map_err(io::Error::other)?;
    let mut peer = None;
    ask(inode, 0, u32::MAX, SHOW_PEER, |_, attributes| {
        peer = attribute(attributes, ATTR_PEER).and_then(|value| word(value, 0));
    })?;
    match peer {
        Some(0) => Ok(AcceptState::Waiting),
        Some(_) => Ok(AcceptState::Accepted),
        None => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
    }
}

/// Whether this listener refuses only because its queue is full. Never here: that is EAGAIN.
pub const fn refuses_when_full(_path: &Path, _keeper: i32, _leader: i32) -> bool {
    false
}

/// Whether any process holds the socket that this file stands for, listening or only bound.
pub fn is_held(path: &Path) -> io::Result<bool> {
    Ok(!sockets_at(path)?.is_empty())
}

/// The processes that hold it, where we may see that. A look at every process's descriptors: for the rare
/// case that somebody is in the way and doesn't answer.
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

/// The inodes of the sockets that are bound to this very file. An accepted connection carries its listener's address,
/// but holds nothing: whoever comes next can't reach it.
fn sockets_at(path: &Path) -> io::Result<Vec<u32>> {
    let file = lstat(path)?;
    match sockets_by_inode(path, &file) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) => {
            // No AF_NETLINK (a seccomp filter) or no unix_diag: the names that the sockets were given must do.
            sockets_by_name(path, &file)
        }
        found => found,
    }
}

fn sockets_by_inode(path: &Path, file: &FileStat) -> io::Result<Vec<u32>> {
    let inode = u32::try_from(file.st_ino & u64::from(u32::MAX)).map_err(io::Error::other)?;
    let device = kernel_device(file.st_dev);
    let mut found = Vec::new();
    ask(0, NLM_F_DUMP, u32::MAX, SHOW_NAME | SHOW_VFS, |answer, attributes| {
        let Some(vfs) = attribute(attributes, ATTR_VFS) else { return };
        let datagrams = answer.get(SOCKET_TYPE).is_some_and(|kind| i32::from(*kind) == libc::SOCK_DGRAM);
        if !datagrams && answer.get(SOCKET_STATE) == Some(&ESTABLISHED) {
            return;
        }
        // Some file systems (btrfs, overlayfs) show stat(2) another device than the kernel has inside.
        let same_place = || {
            let name = attribute(attributes, ATTR_NAME).and_then(|name| name.split(|byte| *byte == 0).next());
            word(vfs, 4) == Some(device) || name.is_some_and(|name| leads_to(name, path, file))
        };
        if word(vfs, 0) == Some(inode) && same_place() {
            found.extend(word(answer, SOCKET_INODE));
        }
    })?;
    Ok(found)
}

/// From the lines of /proc/net/unix: number, references, protocol, flags, type, state, inode, name.
fn sockets_by_name(path: &Path, file: &FileStat) -> io::Result<Vec<u32>> {
    const CONNECTED: &[u8] = b"03";
    const DATAGRAMS: &[u8] = b"0002";
    let mut found = Vec::new();
    for line in fs::read("/proc/net/unix")?.split(|byte| *byte == b'\n').skip(1) {
        let mut rest = line;
        let [.., kind, state, inode] = [(); 7].map(|()| {
            rest = rest.trim_ascii_start();
            let (field, after) = rest.split_at(rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len()));
            rest = after;
            field
        });
        let holds = kind == DATAGRAMS || state != CONNECTED;
        let inode = std::str::from_utf8(inode).ok().and_then(|inode| inode.parse().ok());
        if let Some(inode) = inode.filter(|_| holds && rest.get(1..).is_some_and(|name| leads_to(name, path, file))) {
            found.push(inode);
        }
    }
    Ok(found)
}

/// Whether a socket of this name is the one at `path`. Where that can't be told it is: better left alone than taken from
/// somebody.
fn leads_to(name: &[u8], path: &Path, file: &FileStat) -> bool {
    let bound = Path::new(OsStr::from_bytes(name));
    match lstat(bound) {
        Ok(named) if bound.is_absolute() => (named.st_dev, named.st_ino) == (file.st_dev, file.st_ino),
        // Renamed, moved, in another mount namespace, or relative to a folder that nobody tells.
        Ok(_) | Err(_) => bound.file_name() == path.file_name(),
    }
}

/// The kernel's own dev_t: 12 bits of major, 20 of minor (linux/kdev_t.h).
fn kernel_device(device: u64) -> u32 {
    (libc::major(device) << 20) | libc::minor(device)
}

/// Sends one question and hands each answer's header and attributes to `each`.
fn ask(inode: u32, flags: u16, states: u32, show: u32, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    // SAFETY: integers only.
    let raw = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and ours alone.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut request = Vec::with_capacity(REQUEST);
    request.extend((REQUEST as u32).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for field in [states, inode, show, u32::MAX, u32::MAX] {
        request.extend(field.to_ne_bytes());
    }
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let dump = flags & NLM_F_DUMP != 0;
    let mut buffer = vec![0; if dump { 32 * 1024 } else { 1024 }];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let (Some(size), Some(kind)) = (word(rest, 0), half(rest, 4)) {
            let size = size as usize;
            let Some(message) = rest.get(..size).filter(|message| message.len() >= 16) else {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            };
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    #[expect(clippy::cast_possible_wrap, reason = "a negative errno travels as its bits")]
                    let errno = -(word(message, 16).unwrap_or_default() as i32);
                    return Err(io::Error::from_raw_os_error(errno));
                }
                _ => each(message.get(..ANSWER).unwrap_or(message), message.get(ANSWER..).unwrap_or_default()),
            }
            if !dump {
                return Ok(());
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The value of the first attribute of this kind (netlink(7)).
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let size = half(rest, 0)? as usize;
        let kind = half(rest, 2)?;
        if kind == wanted {
            return rest.get(4..size);
        }
        rest = rest.get(size.max(4).next_multiple_of(4)..)?;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}
