//! Whether a datagram is the daemon's.

use std::io;

use ally_base::os::{self, Sender};

use crate::model::Pid;

/// The processes whose datagrams count.
#[derive(Debug, Clone, Copy)]
pub struct Senders {
    pub leader: Pid,
    pub keeper: Pid,
    /// The real user of the leader.
    pub user: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    Daemon,
    /// A living process outside the tree, or one of another pid namespace (0), or one that is gone and was of another user.
    Other(Pid),
}

impl Senders {
    /// # Errors
    /// A file of /proc can't be read.
    pub fn origin(&self, sender: Option<Sender>) -> io::Result<Origin> {
        // On macOS the kernel does not tell, and the permissions of the socket decide alone.
        let Some(Sender { pid, user }) = sender else { return Ok(Origin::Daemon) };
        if pid == self.leader || os::descends_from(pid, self.keeper)? {
            return Ok(Origin::Daemon);
        }
        // `systemd-notify` may be gone before its datagram is read. A zombie still has its parent, so it is judged as it was.
        let is_gone = pid > 0 && os::identify(pid)?.is_none();
        Ok(if is_gone && user == self.user { Origin::Daemon } else { Origin::Other(pid) })
    }
}
