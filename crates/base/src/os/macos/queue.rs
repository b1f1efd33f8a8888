//! What the kernel knows about Unix sockets, asked of libproc: every descriptor of a process, and what
//! socket it is (`struct socket_fdinfo` of sys/proc_info.h).
//!
//! A connection has its far end from connect(2) on. It waits in the listener's queue until somebody
//! accepts it: ours was taken if a descriptor of the process at the other end is the far end of our own. Where no
//! descriptor is, an empty queue says that everything was taken, ours too.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{UnixAddr, getpeername};

use super::descriptors::{descriptors, query};
use super::identity::working_directory;
use super::peer::peer_pid;
use super::tree::{everyone, members};

/// `PROC_PIDFDSOCKETINFO` of sys/proc_info.h.
const SOCKET_INFO: libc::c_int = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptState {
    Waiting,
    Accepted,
}

/// `struct socket_fdinfo`, of a Unix socket.
#[repr(C)]
struct SocketInfo {
    /// `struct proc_fileinfo`.
    file: [u32; 6],
    stat: libc::vinfo_stat,
    /// Names one socket among all, in no other sense an address.
    so: u64,
    pcb: u64,
    kind: i32,
    protocol: i32,
    family: i32,
    options: i16,
    linger: i16,
    state: i16,
    /// Connections that wait to be accepted.
    queue: i16,
    incomplete: i16,
    queue_limit: i16,
    timeout: i16,
    error: u16,
    out_of_band: u32,
    /// Two `struct sockbuf_info`.
    buffers: [u32; 12],
    details: i32,
    reserved: u32,
    /// `so` of the far end.
    far: u64,
    far_pcb: u64,
    address: [u8; 255],
    far_address: [u8; 255],
}

// As the kernel has it on x64 and on arm64: another layout must not compile.
const _: () = assert!(mem::size_of::<SocketInfo>() == 792 && mem::offset_of!(SocketInfo, queue) == 194);

impl SocketInfo {
    /// `None` for what is no Unix socket, or is closed by now.
    fn of(pid: i32, descriptor: i32) -> Option<Self> {
        query::<Self>(pid, descriptor, SOCKET_INFO).filter(|info| info.family == libc::AF_UNIX)
    }

    /// As it was given to bind(2). Empty for one that has no name.
    fn bound_to(&self) -> &[u8] {
        // sockaddr_un: two bytes of length and family, then the path.
        first_string(self.address.get(2..).unwrap_or_default())
    }

    /// Whether this file is its name. An accepted connection carries its listener's name, but holds nothing.
    fn stands_behind(&self, owner: i32, path: &Path, file: &fs::Metadata) -> bool {
        let bound = PathBuf::from(std::ffi::OsStr::from_bytes(self.bound_to()));
        if self.far != 0 || bound.as_os_str().is_empty() {
            return false;
        }
        // A relative name is one in the folder that the process worked in, and hopefully still does.
        let bound = if bound.is_absolute() { bound } else { working_directory(owner).unwrap_or_default().join(bound) };
        match fs::symlink_metadata(&bound) {
            Ok(named) => (named.dev(), named.ino()) == (file.dev(), file.ino()),
            // Renamed or moved: better left alone than taken from somebody.
            Err(_) => bound.file_name() == path.file_name(),
        }
    }

    fn listens(&self) -> bool {
        libc::c_int::from(self.options) & libc::SO_ACCEPTCONN != 0
    }
}

/// Who binds with the size of the whole structure, as libuv does, has NULs behind the name.
fn first_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

pub fn accept_queue_is_visible() -> bool {
    true
}

/// Whether the listener has accepted this connected client.
///
/// # Errors
/// ENOTCONN once the other side has hung up; EPERM where the process there shows nothing of itself.
pub fn accept_state(client: &(impl AsFd + AsRawFd)) -> io::Result<AcceptState> {
    let hung_up = || io::Error::from_raw_os_error(libc::ENOTCONN);
    let listener: UnixAddr = getpeername(client.as_raw_fd()).map_err(|error| match error {
        Errno::EINVAL => hung_up(),
        other => other.into(),
    })?;
    let name = listener.path().map(|path| first_string(path.as_os_str().as_bytes()).to_vec()).ok_or_else(hung_up)?;
    let there = sockets_of(peer_pid(client)?);
    let own = SocketInfo::of(nix::unistd::getpid().as_raw(), client.as_raw_fd());
    if own.is_some_and(|own| own.far != 0 && there.iter().any(|socket| socket.so == own.far)) {
        return Ok(AcceptState::Accepted);
    }
    let mut listeners = there.iter().filter(|socket| socket.listens() && socket.bound_to() == name).peekable();
    if listeners.peek().is_none() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(if listeners.all(|listener| listener.queue == 0) { AcceptState::Accepted } else { AcceptState::Waiting })
}

/// Whether this listener refuses only because its queue is full, as Linux never does: one of the tree listens there.
pub fn refuses_when_full(path: &Path, keeper: i32, leader: i32) -> bool {
    let Ok(file) = fs::symlink_metadata(path) else { return false };
    let holds = |pid: i32| sockets_of(pid).iter().any(|socket| socket.listens() && socket.stands_behind(pid, path, &file));
    members(keeper, &mut Some(leader), &[], &mut |_| {}).seen.iter().any(|process| holds(process.pid))
}

/// Whether any process of ours holds the socket that this file stands for, listening or only bound. Other users'
/// are not shown.
pub fn is_held(path: &Path) -> io::Result<bool> {
    Ok(!held_by(path)?.is_empty())
}

/// The processes that hold it, where we may see that. A look at every process's descriptors: for the rare
/// case that somebody is in the way and doesn't answer.
pub fn holders(path: &Path) -> Vec<i32> {
    held_by(path).unwrap_or_default()
}

fn held_by(path: &Path) -> io::Result<Vec<i32>> {
    let file = fs::symlink_metadata(path)?;
    let mut pids = everyone()?;
    pids.retain(|pid| sockets_of(*pid).iter().any(|socket| socket.stands_behind(*pid, path, &file)));
    Ok(pids)
}

fn sockets_of(pid: i32) -> Vec<SocketInfo> {
    descriptors(pid, libc::PROX_FDTYPE_SOCKET).into_iter().filter_map(|descriptor| SocketInfo::of(pid, descriptor)).collect()
}
