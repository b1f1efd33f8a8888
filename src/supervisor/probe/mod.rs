//! Questions to a daemon: is it ready, is it healthy.

mod health;
mod ready;
mod taken;

pub use health::{Checkup, check};
pub use ready::{Sight, await_ready};

use crate::lifecycle::Pid;
use crate::os;

/// Whose answer counts: the leader's, and that of anyone its keeper looks after.
#[derive(Debug, Clone, Copy)]
pub struct Daemon {
    pub leader: Pid,
    pub keeper: Pid,
}

impl Daemon {
    /// A process that is gone can't be told from a stranger's, so it counts as one that isn't ours.
    fn includes(self, pid: Pid) -> bool {
        pid == self.leader || os::descends_from(pid, self.keeper)
    }
}
