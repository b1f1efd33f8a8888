//! Whether a process tree listens at a socket file, by the sockets of its processes (`proc_pidfdinfo`). No connection is made.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;

use nix::sys::socket::SockType;

use super::socket_info::{SocketInfo, sockets_of};
use super::tree::members;
use crate::os::{Bound, Listening};

/// Empty: a process is asked for its sockets without a socket for requests.
pub struct SockDiag;

impl SockDiag {
    /// # Errors
    /// None. On Linux the call can fail.
    pub const fn open() -> io::Result<Self> {
        Ok(Self)
    }
}

/// Never found: [`Listeners`] asks the leader first, and asks nobody else if the leader has the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderSocket {}

impl LeaderSocket {
    /// # Errors
    /// None. On Linux the request can fail.
    pub const fn find(_diag: &SockDiag, _path: &Path, _file: &Metadata, _leader: i32) -> io::Result<Option<(Self, Bound, SockType)>> {
        Ok(None)
    }

    /// # Errors
    /// None. On Linux the request can fail.
    pub const fn state(self, _diag: &SockDiag) -> io::Result<Option<(Bound, SockType)>> {
        match self {}
    }
}

/// Empty: macOS lists the sockets of a process, not those of the system.
pub struct Listeners;

impl Listeners {
    /// # Errors
    /// None. On Linux the request can fail.
    pub const fn read(_diag: &SockDiag) -> io::Result<Self> {
        Ok(Self)
    }

    /// `None`: of the types that can be connected to, macOS has only SOCK_STREAM for Unix sockets.
    ///
    /// # Errors
    /// None. On Linux stat(2) can fail.
    pub const fn kind_at(&self, _path: &Path) -> io::Result<Option<SockType>> {
        Ok(None)
    }

    /// Whether a process of the tree has a socket open that listens at this file. A symlink counts as its target. The sockets of
    /// another user's process can't be read.
    ///
    /// # Errors
    /// Errors of stat(2).
    pub fn listening(&self, path: &Path, keeper: i32, leader: i32) -> io::Result<Listening> {
        Ok(if sockets_at(path, keeper, leader)?.iter().any(SocketInfo::listens) {
            Listening::Tree(SockType::Stream)
        } else {
            Listening::Nobody
        })
    }
}

/// The tree's socket that is bound to this file. `Unknown` if the tree has none, or its sockets can't be read.
///
/// # Errors
/// Errors of stat(2).
pub fn bound_socket(path: &Path, keeper: i32, leader: i32) -> io::Result<Bound> {
    let sockets = sockets_at(path, keeper, leader)?;
    Ok(if sockets.iter().any(SocketInfo::listens) {
        Bound::Listening
    } else if sockets.iter().any(|socket| socket.kind == libc::SOCK_DGRAM) {
        Bound::Datagram
    } else if sockets.is_empty() {
        Bound::Unknown
    } else {
        Bound::NotListening
    })
}

/// The sockets of the first process that has any at this file: the leader, then the members of the keeper's tree.
fn sockets_at(path: &Path, keeper: i32, leader: i32) -> io::Result<Vec<SocketInfo>> {
    let file = fs::metadata(path)?;
    let of = |pid: i32| {
        let mut sockets = sockets_of(pid);
        sockets.retain(|socket| socket.is_bound_to(pid, path, &file));
        sockets
    };
    let leaders = of(leader);
    if !leaders.is_empty() {
        return Ok(leaders);
    }
    let tree = members(keeper, &mut Some(keeper), &[], &mut |_| {}).seen;
    Ok(tree.iter().map(|process| of(process.pid)).find(|sockets| !sockets.is_empty()).unwrap_or_default())
}
