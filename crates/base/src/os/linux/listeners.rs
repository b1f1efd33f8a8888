//! Whether a process tree listens at a socket file, by unix_diag and the tree's descriptors. No connection is made.

use std::io;
use std::path::Path;

use nix::sys::socket::SockType;

use super::descriptors::{Search, tree_has_open};
use super::sock_diag::{
    ALL_STATES, ATTR_NAME, ATTR_VFS, LISTEN, NLM_F_DUMP, SHOW_NAME, SHOW_VFS, SOCKET_INODE, SOCKET_TYPE, SockDiag, attribute, query, u32_at,
};
use super::socket_file::SocketFile;
use crate::os::{Held, Listening};

/// The sockets of this network namespace that listen at a file. One request to the kernel serves any number of files.
pub struct Listeners(Vec<Listener>);

struct Listener {
    /// The inode of the file, and its device.
    file: u32,
    device: u32,
    /// Of the socket itself, as in /proc/PID/fd.
    inode: u32,
    kind: SockType,
}

impl Listeners {
    /// Asks for listening sockets only: on a desktop almost all of some thousand sockets are connections.
    ///
    /// # Errors
    /// Errors of the request: a seccomp filter refuses AF_NETLINK, or the kernel has no unix_diag; EMFILE, ENFILE.
    pub fn read(diag: &SockDiag) -> io::Result<Self> {
        let mut listeners = Vec::new();
        diag.query_unix(0, NLM_F_DUMP, 1 << LISTEN, SHOW_VFS, |answer, attributes| {
            let Some(vfs) = attribute(attributes, ATTR_VFS) else { return };
            let kind = answer.get(SOCKET_TYPE).and_then(|kind| SockType::try_from(i32::from(*kind)).ok());
            let (Some(file), Some(device), Some(inode), Some(kind)) = (u32_at(vfs, 0), u32_at(vfs, 4), u32_at(answer, SOCKET_INODE), kind)
            else {
                return;
            };
            listeners.push(Listener { file, device, inode, kind });
        })?;
        listeners.sort_unstable_by_key(|listener| listener.file);
        Ok(Self(listeners))
    }

    /// The type of a socket that listens at this file. A symlink counts as its target.
    ///
    /// # Errors
    /// Errors of stat(2).
    pub fn kind_at(&self, path: &Path) -> io::Result<Option<SockType>> {
        Ok(self.at(&SocketFile::at(path)?).first().map(|listener| listener.kind))
    }

    /// Whether the leader or a descendant of the keeper has a socket open that listens at this file. A symlink counts as its
    /// target. Descriptors are read only if there is a listener at the file.
    ///
    /// # Errors
    /// Errors of stat(2).
    pub fn listening(&self, path: &Path, keeper: i32, leader: i32) -> io::Result<Listening> {
        let listeners = self.at(&SocketFile::at(path)?);
        let Some(kind) = listeners.first().map(|listener| listener.kind) else { return Ok(Listening::Nobody) };
        let inodes: Vec<u32> = listeners.iter().map(|listener| listener.inode).collect();
        Ok(if tree_has_open(keeper, leader, &inodes) == Search::Open { Listening::Tree(kind) } else { Listening::NotFound(kind) })
    }

    fn at(&self, file: &SocketFile) -> Vec<&Listener> {
        let inode = file.inode();
        let from = self.0.partition_point(|listener| listener.file < inode);
        let same_inode = self.0.iter().skip(from).take_while(|listener| listener.file == inode);
        same_inode.filter(|listener| file.is_bound_by(listener.file, listener.device, || name_of(listener.inode)) == Held::Yes).collect()
    }
}

/// The address of a socket. Empty if the socket was closed.
pub fn name_of(socket: u32) -> Vec<u8> {
    let mut name = Vec::new();
    let asked = query(socket, 0, ALL_STATES, SHOW_NAME, |_, attributes| {
        name.extend_from_slice(attribute(attributes, ATTR_NAME).unwrap_or_default());
    });
    if asked.is_ok() { name } else { Vec::new() }
}
