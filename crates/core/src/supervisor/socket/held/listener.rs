//! A listening socket of this process, and what probes ask about it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ally_base::os::{self, Waiting};

use super::in_use;
use crate::error::Failure;
use crate::supervisor::socket::FileId;

#[derive(Debug)]
pub struct HeldListener {
    socket: Arc<OwnedFd>,
    /// The kernel's number of the socket.
    id: u64,
    file: FileId,
    /// The clients' ends of the connections that probes have made.
    own: Mutex<Vec<u64>>,
}

/// A connection of a probe, until the drop.
#[derive(Debug)]
pub struct OwnConnection {
    listener: Arc<HeldListener>,
    client: u64,
}

impl HeldListener {
    pub(super) fn bind(name: &Path) -> Result<Self, Failure> {
        let socket = os::listen_at(name).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => in_use(name),
            _ => Failure::call("bind", name, error),
        })?;
        let made = os::socket_id(&socket).and_then(|id| Ok((id, FileId::find_here(name)?)));
        let (id, file) = made.map_err(|error| Failure::at(name, error))?;
        Ok(Self { socket: Arc::new(socket), id, file, own: Mutex::default() })
    }

    pub(super) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Whether a connection to `path` comes to this socket.
    pub fn is_at(&self, path: &Path) -> bool {
        FileId::find(path).is_ok_and(|file| file == self.file)
    }

    pub(super) const fn file(&self) -> FileId {
        self.file
    }

    /// The connections that wait.
    ///
    /// # Errors
    /// The kernel doesn't tell.
    pub fn waiting(&self) -> io::Result<Waiting> {
        os::waiting(&*self.socket)
    }

    /// Remembers that a client is a probe of this process.
    ///
    /// # Errors
    /// Errors of fstat(2).
    pub fn remember_own(self: &Arc<Self>, client: &OwnedFd) -> io::Result<OwnConnection> {
        let client = os::socket_id(client)?;
        self.own().push(client);
        Ok(OwnConnection { listener: Arc::clone(self), client })
    }

    /// The number of these clients that are no probes.
    pub fn count_others(&self, clients: &[u64]) -> u32 {
        let own = self.own();
        u32::try_from(clients.iter().filter(|client| !own.contains(client)).count()).unwrap_or(u32::MAX)
    }

    /// The number of probes among the connections that wait. `waiting`: the length of the queue.
    ///
    /// # Errors
    /// The kernel doesn't tell.
    pub fn count_own_waiting(&self, waiting: u32) -> io::Result<u32> {
        if waiting == 0 || self.own().is_empty() {
            return Ok(0);
        }
        let clients = self.waiting()?.clients;
        Ok(u32::try_from(clients.len()).unwrap_or(u32::MAX).saturating_sub(self.count_others(&clients)))
    }

    fn own(&self) -> MutexGuard<'_, Vec<u64>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnConnection {
    pub const fn client(&self) -> u64 {
        self.client
    }
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        let mut own = self.listener.own();
        if let Some(index) = own.iter().position(|client| *client == self.client) {
            own.swap_remove(index);
        }
    }
}
