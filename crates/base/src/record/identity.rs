//! `daemon.id`: the identity of a daemon's leader.

/// The kernel reuses pids. Pid, start time and boot together name one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub leader: i32,
    /// As [`crate::os::Process::start`].
    pub start: u64,
    /// [`crate::os::boot_id`]: pid and start time are valid only in this boot and pid namespace.
    pub boot: String,
}

const TITLE: &str = "ally-daemon 1";

impl Identity {
    /// `None` if this package did not write `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let leader = lines.next()?.strip_prefix("pid ")?.parse().ok().filter(|pid| *pid > 1)?;
        let start = lines.next()?.strip_prefix("start ")?.parse().ok()?;
        let boot = lines.next()?.strip_prefix("boot ")?.to_owned();
        Some(Self { leader, start, boot })
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{TITLE}\npid {}\nstart {}\nboot {}", self.leader, self.start, self.boot)
    }
}
