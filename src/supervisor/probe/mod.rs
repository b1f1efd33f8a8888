//! Questions to a daemon: is it ready, is it healthy.

mod health;
mod ready;
mod taken;

pub use health::{Checkup, check};
pub use ready::{Sight, await_ready};

use std::io;
use std::path::Path;

use crate::lifecycle::Pid;
use crate::os;

/// Whose answer counts: the leader's, and that of anyone its keeper looks after.
#[derive(Debug, Clone, Copy)]
pub struct Daemon {
    pub leader: Pid,
    pub keeper: Pid,
}

enum Answering {
    Ours,
    /// A pid of 0 is one that this namespace has no number for.
    Other(Pid),
    /// Whoever made the socket is gone, and nobody shows that he has it.
    Nobody,
}

impl Daemon {
    /// A process that is gone can't be told from a stranger's, so it counts as one that isn't ours.
    ///
    /// # Errors
    /// Where that can't be found out.
    fn includes(self, pid: Pid) -> io::Result<bool> {
        Ok(pid == self.leader || os::descends_from(pid, self.keeper)?)
    }

    /// Who answers at `path`, where `listener` made the socket. One that is gone has left it to somebody, and its pid may be
    /// another's.
    ///
    /// # Errors
    /// Where that can't be found out.
    fn who_answers(self, listener: Pid, path: &Path) -> io::Result<Answering> {
        if self.includes(listener)? {
            return Ok(Answering::Ours);
        }
        let heirs = os::holders(path);
        for heir in &heirs {
            if self.includes(*heir)? {
                return Ok(Answering::Ours);
            }
        }
        if let Some(heir) = heirs.first() {
            return Ok(Answering::Other(*heir));
        }
        let gone = listener > 0 && os::identify(listener)?.is_none_or(|process| process.zombie);
        Ok(if gone { Answering::Nobody } else { Answering::Other(listener) })
    }
}
