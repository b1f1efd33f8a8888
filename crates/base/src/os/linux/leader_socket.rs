//! The socket of a leader that is bound to a socket file. Once it is found, one request tells whether it listens: a list of all
//! sockets takes the kernel longer, and most daemons bind the socket in their leader.

use std::fs::Metadata;
use std::io;
use std::path::Path;

use nix::sys::socket::SockType;

use super::descriptors::find_socket;
use super::listeners::name_of;
use super::sock_diag::{ALL_STATES, ATTR_VFS, ESTABLISHED, LISTEN, SHOW_VFS, SOCKET_STATE, SOCKET_TYPE, SockDiag, attribute, u32_at};
use super::socket_file::SocketFile;
use crate::os::{Bound, Held};

/// A leader with more sockets is not searched to the end, because each takes a request. A daemon has made its listener last.
const SOCKETS_MAX: u32 = 8;

/// The inode of a socket, as in /proc/PID/fd. As long as it is open it is of no other socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderSocket(u32);

impl LeaderSocket {
    /// The socket of this process that is bound to `file`, which stat(2) has found at `path`, and its state. `None` if none was
    /// found, for whatever reason: [`Listeners`](super::Listeners) can tell then.
    ///
    /// # Errors
    /// Errors of the request.
    pub fn find(diag: &SockDiag, path: &Path, file: &Metadata, leader: i32) -> io::Result<Option<(Self, Bound, SockType)>> {
        let file = SocketFile::of(path, file);
        let mut result = Ok(None);
        let mut asked = 0;
        let is_found = |inode: u32| {
            asked += 1;
            result = look(diag, inode).map(|seen| seen.filter(|seen| seen.is_bound_to(&file, inode)).map(|seen| (Self(inode), seen)));
            asked == SOCKETS_MAX || !matches!(result, Ok(None))
        };
        // The descriptors of a process that is gone, or of another user's, can't be read.
        drop(find_socket(leader, is_found));
        Ok(result?.map(|(socket, seen)| (socket, seen.state(), seen.kind)))
    }

    /// Whether the socket listens, and its type. `None` if it was closed.
    ///
    /// # Errors
    /// Errors of the request.
    pub fn state(self, diag: &SockDiag) -> io::Result<Option<(Bound, SockType)>> {
        Ok(look(diag, self.0)?.map(|seen| (seen.state(), seen.kind)))
    }
}

struct Seen {
    state: u8,
    kind: SockType,
    /// The inode of the file, and its device.
    file: Option<(u32, u32)>,
}

impl Seen {
    fn parse(answer: &[u8], attributes: &[u8]) -> Option<Self> {
        let file = attribute(attributes, ATTR_VFS).and_then(|vfs| Some((u32_at(vfs, 0)?, u32_at(vfs, 4)?)));
        let kind = SockType::try_from(i32::from(*answer.get(SOCKET_TYPE)?)).ok()?;
        Some(Self { state: *answer.get(SOCKET_STATE)?, kind, file })
    }

    fn is_bound_to(&self, file: &SocketFile, inode: u32) -> bool {
        // An accepted connection has its listener's address.
        let is_connection = self.kind != SockType::Datagram && self.state == ESTABLISHED;
        !is_connection && self.file.is_some_and(|(bound, device)| file.is_bound_by(bound, device, || name_of(inode)) == Held::Yes)
    }

    fn state(&self) -> Bound {
        match self.kind {
            SockType::Datagram => Bound::Datagram,
            _ if self.state == LISTEN => Bound::Listening,
            _ => Bound::NotListening,
        }
    }
}

/// `None` if no Unix socket has this inode.
fn look(diag: &SockDiag, inode: u32) -> io::Result<Option<Seen>> {
    let mut seen = None;
    match diag.query_unix(inode, 0, ALL_STATES, SHOW_VFS, |answer, attributes| seen = Seen::parse(answer, attributes)) {
        Ok(()) => Ok(seen),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
