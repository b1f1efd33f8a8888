//! Who a leader is, beyond its pid, as `daemon.id` has it.

use std::io;
use std::path::Path;

use crate::error::Failure;
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
    /// `None` if it doesn't live. A keeper's child: by the time that the keeper's report is read its leader may be gone,
    /// and the pid a stranger's.
    ///
    /// # Errors
    /// `Io` where the system doesn't tell.
    pub fn of(leader: Pid, keeper: Pid) -> Result<Option<Self>, Failure> {
        let process = os::identify(leader).map_err(|error| untold(&error))?.filter(|process| !process.zombie && process.parent == keeper);
        let Some(process) = process else { return Ok(None) };
        Ok(Some(Self { leader, start: process.start, boot: boot_id()? }))
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

    /// # Errors
    /// `Io` where the system doesn't tell.
    pub fn is_of_this_boot(&self) -> Result<bool, Failure> {
        Ok(boot_id()? == self.boot)
    }

    /// The process itself, if it still lives.
    ///
    /// # Errors
    /// `Io` where the system doesn't tell.
    pub fn find(&self) -> Result<Option<os::Process>, Failure> {
        if !self.is_of_this_boot()? {
            return Ok(None);
        }
        let process = os::identify(self.leader).map_err(|error| untold(&error))?;
        Ok(process.filter(|process| process.start == self.start && !process.zombie))
    }
}

/// What /proc, or its counterpart, doesn't tell of processes.
pub fn untold(error: &io::Error) -> Failure {
    Failure::at(Path::new("/proc"), same(error))
}

/// A copy, which `io::Error` does not make of itself.
fn same(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

fn boot_id() -> Result<String, Failure> {
    os::boot_id().map_err(|error| Failure::at(Path::new(os::BOOT_ID), error))
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{IDENTITY_TITLE}\npid {}\nstart {}\nboot {}", self.leader, self.start, self.boot)
    }
}
