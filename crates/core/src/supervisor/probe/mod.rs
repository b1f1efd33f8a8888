//! Questions to a daemon: is it ready, is it healthy.

mod accepted;
mod health;
mod ready;

pub use health::{HealthCheck, check};
pub use ready::{ReadinessStatus, await_ready};

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::socket::{SocketFileId, holders};
use crate::model::Pid;
use ally_base::os;

/// The processes whose answer counts: the leader, and whatever descends from its keeper.
#[derive(Debug, Clone)]
pub struct ProbedDaemon {
    pub leader: Pid,
    pub keeper: Pid,
    /// A socket that the tree has from a maker outside it, and that maker. Remembered, because the search for a socket's
    /// holders reads all processes.
    inherited: Arc<Mutex<Option<(SocketFileId, Pid)>>>,
}

enum Answering {
    Ours,
    /// A pid of 0 is one that this namespace has no number for.
    Other(Pid),
    /// The maker of the socket is gone, and no holder is seen.
    Nobody,
}

impl ProbedDaemon {
    pub fn new(leader: Pid, keeper: Pid) -> Self {
        Self { leader, keeper, inherited: Arc::default() }
    }

    /// A process that is gone counts as none of ours: its pid may be another process's.
    ///
    /// # Errors
    /// A scan that failed.
    fn includes(&self, pid: Pid) -> io::Result<bool> {
        Ok(pid == self.leader || os::descends_from(pid, self.keeper)?)
    }

    /// Which process answers at `path`, if `listener` made the socket. If the listener is gone, another process has the socket,
    /// and the listener's pid may be reused.
    ///
    /// # Errors
    /// A scan that failed.
    fn who_answers(&self, listener: Pid, path: &Path) -> io::Result<Answering> {
        if self.includes(listener)? {
            return Ok(Answering::Ours);
        }
        let socket = SocketFileId::at(path).map(|id| (id, listener));
        if socket.is_some() && *self.inherited() == socket {
            return Ok(Answering::Ours);
        }
        let holders = holders(path, Some(listener));
        for holder in &holders {
            if self.includes(*holder)? {
                *self.inherited() = socket;
                return Ok(Answering::Ours);
            }
        }
        // A listener without a number in this pid namespace is another process all the same.
        let unnumbered = (listener <= 0).then_some(listener);
        Ok(holders.first().copied().or(unnumbered).map_or(Answering::Nobody, Answering::Other))
    }

    fn inherited(&self) -> MutexGuard<'_, Option<(SocketFileId, Pid)>> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
