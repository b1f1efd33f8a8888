//! The use of a listening socket of this process, by libproc.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::listeners::SockDiag;
use super::socket_info::{SocketInfo, sockets_of};
use super::tree::{all_pids, members};
use crate::os::{BoundBy, ListenerUse, Waiting};

/// The kernel's number of a socket.
///
/// # Errors
/// EBADF if the descriptor is no Unix socket.
pub fn socket_id(socket: &impl AsFd) -> io::Result<u64> {
    info(socket).map(|info| info.so)
}

fn info(socket: &impl AsFd) -> io::Result<SocketInfo> {
    SocketInfo::of(crate::os::own_pid(), socket.as_fd().as_raw_fd()).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
}

/// The connections that wait in the queue of this listening socket. macOS does not tell whose they are.
///
/// # Errors
/// As [`socket_id`].
pub fn waiting(listener: &impl AsFd) -> io::Result<Waiting> {
    Ok(Waiting { count: u32::try_from(info(listener)?.queue).unwrap_or_default(), clients: Vec::new() })
}

/// The kernel's number of the socket that listens at this file. A symlink counts as its target. Of the sockets of other users
/// nothing is known.
///
/// # Errors
/// Errors of stat(2) and of the scan.
pub fn listening_socket(path: &Path) -> io::Result<Option<u64>> {
    let file = fs::metadata(path)?;
    Ok(find_socket(|pid, socket| socket.listens() && socket.is_bound_to(pid, path, &file))?.map(|socket| socket.so))
}

/// The number of connections that wait in the queue of a socket of any process. 0 if it is closed, or a socket of another user.
///
/// # Errors
/// Errors of the scan.
pub fn waiting_in(socket: u64) -> io::Result<u32> {
    Ok(find_socket(|_, open| open.so == socket)?.map_or(0, |open| u32::try_from(open.queue).unwrap_or_default()))
}

/// macOS finds a socket only by its process, so all processes are asked.
fn find_socket(is_wanted: impl Fn(i32, &SocketInfo) -> bool) -> io::Result<Option<SocketInfo>> {
    Ok(all_pids()?.into_iter().find_map(|pid| sockets_of(pid).into_iter().find(|socket| is_wanted(pid, socket))))
}

/// The socket at the other end of a connection, which exists before it is accepted.
///
/// # Errors
/// ENOTCONN if the other end is closed.
pub fn peer_socket(client: &impl AsFd) -> io::Result<Option<u64>> {
    match info(client)?.peer_so {
        0 => Err(io::Error::from_raw_os_error(libc::ENOTCONN)),
        socket => Ok(Some(socket)),
    }
}

/// As [`peer_socket`], for the socket of any process.
///
/// # Errors
/// Errors of the scan.
pub fn peer_of(socket: u64) -> io::Result<Option<u64>> {
    Ok(find_socket(|_, open| open.so == socket)?.map(|open| open.peer_so).filter(|peer| *peer != 0))
}

/// Whether the leader or a member of the keeper's tree has this socket open. `None` if it was not found: the sockets of another user's
/// process can't be read.
pub fn tree_has_socket(keeper: i32, leader: i32, socket: u64) -> Option<bool> {
    tree(keeper, leader).into_iter().any(|pid| sockets_of(pid).iter().any(|open| open.so == socket)).then_some(true)
}

/// Whether a process outside this one has this socket open.
pub fn others_have_socket(socket: u64) -> bool {
    let others = all_pids().unwrap_or_default().into_iter().filter(|pid| *pid != crate::os::own_pid());
    others.into_iter().any(|pid| sockets_of(pid).iter().any(|open| open.so == socket))
}

/// The processes that have a socket bound to this file, listening or not. A symlink counts as its target.
///
/// # Errors
/// Errors of stat(2) and of the scan.
pub fn bound_by(path: &Path, keeper: i32, leader: i32) -> io::Result<BoundBy> {
    let holders = super::holders::holding_pids(path)?;
    let tree = tree(keeper, leader);
    Ok(if holders.is_empty() {
        BoundBy::Nobody
    } else if holders.iter().any(|holder| tree.contains(holder)) {
        BoundBy::Tree
    } else {
        BoundBy::Others
    })
}

fn tree(keeper: i32, leader: i32) -> Vec<i32> {
    let members = members(keeper, &mut Some(keeper), &[], &mut |_| {}).seen;
    std::iter::once(leader).chain(members.into_iter().map(|process| process.pid)).collect()
}

/// Empty: macOS lists the sockets of a process, not those of the system.
#[derive(Default)]
pub struct SocketTable;

impl SocketTable {
    /// # Errors
    /// None. On Linux the request can fail.
    pub const fn read(_diag: &SockDiag) -> io::Result<Self> {
        Ok(Self)
    }

    /// The use of a listening socket of this process, which the tree has as well. An accepted connection has the name of its listener.
    ///
    /// # Errors
    /// As [`socket_id`].
    pub fn use_of(&self, listener: &impl AsFd, keeper: i32, leader: i32) -> io::Result<ListenerUse> {
        let own = info(listener)?;
        let sockets = tree(keeper, leader).into_iter().flat_map(sockets_of);
        let clients = sockets.filter(|socket| socket.peer_so != 0 && socket.bound_name() == own.bound_name()).map(|socket| socket.peer_so);
        Ok(ListenerUse { waiting: u32::try_from(own.queue).unwrap_or_default(), clients: clients.collect() })
    }

    /// macOS has no network namespaces.
    pub const fn misses_socket_of(&self, _keeper: i32, _leader: i32) -> bool {
        false
    }
}
