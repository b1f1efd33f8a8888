//! Questions to a daemon: is it ready, is it healthy.

mod health;
mod ready;
mod taken;

pub use health::{Checkup, check};
pub use ready::{Sight, await_ready};

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::socket::{Mark, holders, mark};
use crate::model::Pid;
use ally_base::os;

/// Whose answer counts: the leader's, and that of anyone its keeper looks after.
#[derive(Debug, Clone)]
pub struct Daemon {
    pub leader: Pid,
    pub keeper: Pid,
    /// The socket that one of the tree was found to have from a maker who is none of it, and that maker: who has a socket is
    /// asked of all processes, and not at every check.
    inherited: Arc<Mutex<Option<(Mark, Pid)>>>,
}

enum Answering {
    Ours,
    /// A pid of 0 is one that this namespace has no number for.
    Other(Pid),
    /// Whoever made the socket is gone, and nobody shows that he has it.
    Nobody,
}

impl Daemon {
    pub fn new(leader: Pid, keeper: Pid) -> Self {
        Self { leader, keeper, inherited: Arc::default() }
    }

    /// A process that is gone can't be told from a stranger's, so it counts as one that isn't ours.
    ///
    /// # Errors
    /// Where that can't be found out.
    fn includes(&self, pid: Pid) -> io::Result<bool> {
        Ok(pid == self.leader || os::descends_from(pid, self.keeper)?)
    }

    /// Who answers at `path`, where `listener` made the socket. One that is gone has left it to somebody, and its pid may be
    /// another's.
    ///
    /// # Errors
    /// Where that can't be found out.
    fn who_answers(&self, listener: Pid, path: &Path) -> io::Result<Answering> {
        if self.includes(listener)? {
            return Ok(Answering::Ours);
        }
        let socket = mark(path).map(|mark| (mark, listener));
        if socket.is_some() && *self.inherited() == socket {
            return Ok(Answering::Ours);
        }
        let heirs = holders(path, Some(listener));
        for heir in &heirs {
            if self.includes(*heir)? {
                *self.inherited() = socket;
                return Ok(Answering::Ours);
            }
        }
        // One that this namespace has no number for is somebody all the same.
        let unnumbered = (listener <= 0).then_some(listener);
        Ok(heirs.first().copied().or(unnumbered).map_or(Answering::Nobody, Answering::Other))
    }

    fn inherited(&self) -> MutexGuard<'_, Option<(Mark, Pid)>> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
