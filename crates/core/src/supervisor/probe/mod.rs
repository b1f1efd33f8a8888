//! Probes: readiness and health.

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

/// The processes that may answer a probe: the leader, and each descendant of the keeper.
#[derive(Debug, Clone)]
pub struct ProbedDaemon {
    pub leader: Pid,
    pub keeper: Pid,
    /// A socket of the tree that a process outside the tree made, and the pid of that process. Cached, because the search
    /// for the holders of a socket scans all processes.
    inherited: Arc<Mutex<Option<(SocketFileId, Pid)>>>,
}

enum Answering {
    Daemon,
    /// The pid is 0 if the process is outside this PID namespace.
    Other(Pid),
    /// The maker of the socket is gone, and the scan found no holder.
    NoHolder,
}

impl ProbedDaemon {
    pub fn new(leader: Pid, keeper: Pid) -> Self {
        Self { leader, keeper, inherited: Arc::default() }
    }

    /// False for a process that is gone, because its pid may belong to another process.
    ///
    /// # Errors
    /// A scan that failed.
    fn includes(&self, pid: Pid) -> io::Result<bool> {
        Ok(pid == self.leader || os::descends_from(pid, self.keeper)?)
    }

    /// The process that answers at `path`. `listener`: the process that called listen(2). If the listener is gone, another
    /// process holds the socket, and the listener's pid may be reused.
    ///
    /// # Errors
    /// A scan that failed.
    fn answering_process(&self, listener: Pid, path: &Path) -> io::Result<Answering> {
        if self.includes(listener)? {
            return Ok(Answering::Daemon);
        }
        let socket = SocketFileId::at(path).map(|id| (id, listener));
        if socket.is_some() && *self.inherited() == socket {
            return Ok(Answering::Daemon);
        }
        let holders = holders(path, Some(listener));
        for holder in &holders {
            if self.includes(*holder)? {
                *self.inherited() = socket;
                return Ok(Answering::Daemon);
            }
        }
        // A listener outside this PID namespace has the pid 0, and is another process.
        let outside = (listener <= 0).then_some(listener);
        Ok(holders.first().copied().or(outside).map_or(Answering::NoHolder, Answering::Other))
    }

    fn inherited(&self) -> MutexGuard<'_, Option<(SocketFileId, Pid)>> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
