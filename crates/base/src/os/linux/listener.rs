//! The use of a listening socket of this process, by unix_diag.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::stat::fstat;

use super::descriptors::{Search, open_sockets, tree_has_open};
use super::holders::sockets_bound_to;
use super::sock_diag::{
    ALL_STATES, ATTR_ICONS, ATTR_PEER, ATTR_RQLEN, ATTR_VFS, ESTABLISHED, LISTEN, NLM_F_DUMP, SHOW_ICONS, SHOW_PEER, SHOW_RQLEN, SHOW_VFS,
    SOCKET_INODE, SOCKET_STATE, SockDiag, attribute, query, u32_at,
};
use super::tree::descendants;
use crate::os::{BoundBy, ListenerUse, Waiting};

/// The kernel's number of a socket: its inode.
///
/// # Errors
/// Errors of fstat(2).
pub fn socket_id(socket: &impl AsFd) -> io::Result<u64> {
    Ok(fstat(socket)?.st_ino)
}

/// The connections that wait in the queue of this listening socket.
///
/// # Errors
/// Errors of the request: a seccomp filter refuses AF_NETLINK, or the kernel has no unix_diag; EMFILE, ENFILE.
pub fn waiting(listener: &impl AsFd) -> io::Result<Waiting> {
    let inode = own_inode(listener)?;
    match ask(inode, SHOW_RQLEN | SHOW_ICONS) {
        // The list of clients does not fit into the kernel's answer, or the answer not into the buffer: about a thousand of them.
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) || error.kind() == io::ErrorKind::InvalidData => ask(inode, SHOW_RQLEN),
        answer => answer,
    }
}

/// The kernel's number of the socket that listens at this file. A symlink counts as its target.
///
/// # Errors
/// Errors of stat(2) and of the request.
pub fn listening_socket(path: &Path) -> io::Result<Option<u64>> {
    Ok(sockets_bound_to(path)?.first().map(|inode| u64::from(*inode)))
}

/// The number of connections that wait in the queue of a socket of any process. 0 if it is closed.
///
/// # Errors
/// Errors of the request.
pub fn waiting_in(socket: u64) -> io::Result<u32> {
    match ask(u32::try_from(socket).map_err(io::Error::other)?, SHOW_RQLEN) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        answer => answer.map(|waiting| waiting.count),
    }
}

fn ask(inode: u32, show: u32) -> io::Result<Waiting> {
    let mut waiting = Waiting::default();
    query(inode, 0, ALL_STATES, show, |_, attributes| {
        waiting.count = attribute(attributes, ATTR_RQLEN).and_then(|lengths| u32_at(lengths, 0)).unwrap_or_default();
        let clients = attribute(attributes, ATTR_ICONS).unwrap_or_default().as_chunks().0;
        waiting.clients = clients.iter().map(|inode| u32::from_ne_bytes(*inode).into()).collect();
    })?;
    Ok(waiting)
}

fn own_inode(socket: &impl AsFd) -> io::Result<u32> {
    u32::try_from(socket_id(socket)?).map_err(io::Error::other)
}

/// The socket at the other end of a connection. `None` while the connection waits in a queue.
///
/// # Errors
/// ENOTCONN if the other end is closed, and errors of the request.
pub fn peer_socket(client: &impl AsFd) -> io::Result<Option<u64>> {
    peer_of(socket_id(client)?)
}

/// As [`peer_socket`], for the socket of any process.
///
/// # Errors
/// As [`peer_socket`]. ENOENT if the socket is closed.
pub fn peer_of(socket: u64) -> io::Result<Option<u64>> {
    let inode = u32::try_from(socket).map_err(io::Error::other)?;
    let mut peer = None;
    query(inode, 0, ALL_STATES, SHOW_PEER, |_, attributes| {
        peer = attribute(attributes, ATTR_PEER).and_then(|value| u32_at(value, 0));
    })?;
    match peer {
        Some(0) => Ok(None),
        Some(inode) => Ok(Some(inode.into())),
        None => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
    }
}

/// Whether the leader or a descendant of the keeper has this socket open. `None` if it was not found, and some descriptors can't be
/// read.
pub fn tree_has_socket(keeper: i32, leader: i32, socket: u64) -> Option<bool> {
    let Ok(inode) = u32::try_from(socket) else { return None };
    match tree_has_open(keeper, leader, &[inode]) {
        Search::Open => Some(true),
        Search::NotOpen => Some(false),
        Search::Unreadable => None,
    }
}

/// Whether a process outside this one has this socket open. The scan reads the descriptors of all processes.
pub fn others_have_socket(socket: u64) -> bool {
    let own = crate::os::own_pid();
    u32::try_from(socket).is_ok_and(|inode| super::descriptors::all_that_have_open(&[inode]).into_iter().any(|pid| pid != own))
}

/// The processes that have a socket bound to this file, listening or not. A symlink counts as its target.
///
/// # Errors
/// Errors of stat(2) and of the request.
pub fn bound_by(path: &Path, keeper: i32, leader: i32) -> io::Result<BoundBy> {
    let inodes = sockets_bound_to(path)?;
    Ok(if inodes.is_empty() {
        BoundBy::Nobody
    } else if tree_has_open(keeper, leader, &inodes) == Search::Open {
        BoundBy::Tree
    } else {
        BoundBy::Others
    })
}

/// The Unix sockets of this network namespace. One request to the kernel serves any number of listeners.
#[derive(Default)]
pub struct SocketTable {
    /// Sorted.
    inodes: Vec<u32>,
    listeners: Vec<Listener>,
    connections: Vec<Connection>,
}

struct Listener {
    inode: u32,
    file: (u32, u32),
    waiting: u32,
}

/// A connection that was accepted. It has the file of its listener.
struct Connection {
    file: (u32, u32),
    /// The socket of the client. 0 if the client has closed it.
    client: u32,
}

impl SocketTable {
    /// # Errors
    /// Errors of the request.
    pub fn read(diag: &SockDiag) -> io::Result<Self> {
        let mut table = Self::default();
        diag.query_unix(0, NLM_F_DUMP, ALL_STATES, SHOW_VFS | SHOW_PEER | SHOW_RQLEN, |answer, attributes| {
            let Some(inode) = u32_at(answer, SOCKET_INODE) else { return };
            table.inodes.push(inode);
            let Some(vfs) = attribute(attributes, ATTR_VFS) else { return };
            let (Some(state), Some(number), Some(device)) = (answer.get(SOCKET_STATE), u32_at(vfs, 0), u32_at(vfs, 4)) else { return };
            let file = (number, device);
            match *state {
                LISTEN => {
                    let waiting = attribute(attributes, ATTR_RQLEN).and_then(|lengths| u32_at(lengths, 0)).unwrap_or_default();
                    table.listeners.push(Listener { inode, file, waiting });
                }
                ESTABLISHED => {
                    let client = attribute(attributes, ATTR_PEER).and_then(|value| u32_at(value, 0)).unwrap_or_default();
                    table.connections.push(Connection { file, client });
                }
                _ => {}
            }
        })?;
        table.inodes.sort_unstable();
        Ok(table)
    }

    /// The use of a listening socket of this process. The tree is for systems on which only the sockets of a process can be listed.
    ///
    /// # Errors
    /// ENOENT if the table does not have the socket, and errors of fstat(2).
    pub fn use_of(&self, listener: &impl AsFd, _keeper: i32, _leader: i32) -> io::Result<ListenerUse> {
        let inode = own_inode(listener)?;
        let listener = self.listeners.iter().find(|listener| listener.inode == inode);
        let Some(Listener { file, waiting, .. }) = listener else { return Err(io::Error::from_raw_os_error(libc::ENOENT)) };
        let clients = self.connections.iter().filter(|connection| connection.file == *file && connection.client != 0);
        Ok(ListenerUse { waiting: *waiting, clients: clients.map(|connection| connection.client.into()).collect() })
    }

    /// Whether the tree has a Unix socket open that is not in the table: it is in another network namespace, or was made since.
    pub fn misses_socket_of(&self, keeper: i32, leader: i32) -> bool {
        let tree = descendants(keeper).seen.into_iter().map(|process| process.pid).filter(|pid| *pid != leader);
        std::iter::once(leader).chain(tree).any(|pid| {
            let sockets = open_sockets(pid).unwrap_or_default();
            sockets.into_iter().any(|(number, inode)| self.inodes.binary_search(&inode).is_err() && is_unix_socket(pid, number))
        })
    }
}

/// A socket's protocol is an extended attribute of its descriptor: `UNIX-STREAM`, `UNIX`, `TCP`.
fn is_unix_socket(pid: i32, number: u32) -> bool {
    let Ok(path) = CString::new(format!("/proc/{pid}/fd/{number}")) else { return false };
    let mut protocol = [0_u8; 32];
    // SAFETY: both names are NUL-terminated, and the buffer is writable and has this length.
    let length = unsafe { libc::getxattr(path.as_ptr(), c"system.sockprotoname".as_ptr(), protocol.as_mut_ptr().cast(), protocol.len()) };
    length > 0 && protocol.starts_with(b"UNIX")
}
