//! Who a leader is, beyond its pid, as `daemon.id` has it.

use std::io;

use crate::lifecycle::Pid;
use crate::os;

/// Who a leader is, beyond its pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub leader: Pid,
    pub start: u64,
    /// The boot, and the pid namespace, in which the two mean anything.
    pub boot: String,
}

const IDENTITY_TITLE: &str = "ally-daemon 1";

impl Identity {
    /// `None` if the process doesn't live.
    ///
    /// # Errors
    /// Where the system doesn't tell.
    pub fn of(leader: Pid) -> io::Result<Option<Self>> {
        let Some(process) = os::identify(leader)?.filter(|process| !process.zombie) else { return Ok(None) };
        Ok(Some(Self { leader, start: process.start, boot: os::boot_id()? }))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != IDENTITY_TITLE {
            return None;
        }
        let leader = lines.next()?.strip_prefix("pid ")?.parse().ok().filter(|pid| *pid > 1)?;
        let start = lines.next()?.strip_prefix("start ")?.parse().ok()?;
        let boot = lines.next()?.strip_prefix("boot ")?.to_owned();
        Some(Self { leader, start, boot })
    }

    pub fn is_of_this_boot(&self) -> io::Result<bool> {
        Ok(os::boot_id()? == self.boot)
    }

    /// The process itself, if it still lives.
    pub fn find(&self) -> Option<os::Process> {
        if !self.is_of_this_boot().ok()? {
            return None;
        }
        os::look_up(self.leader).filter(|process| process.start == self.start && !process.zombie)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{IDENTITY_TITLE}\npid {}\nstart {}\nboot {}", self.leader, self.start, self.boot)
    }
}
