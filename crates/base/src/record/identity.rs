//! `daemon.id`: the identity of a daemon's leader.

/// A pid alone names no process for long: the system gives it to another one. With the start time and the boot it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub leader: i32,
    /// As [`crate::os::Process::start`].
    pub start: u64,
    /// The boot and the pid namespace in which pid and start mean anything: [`crate::os::boot_id`].
    pub boot: String,
}

const TITLE: &str = "ally-daemon 1";

impl Identity {
    /// `None` for a text that was not written by this package.
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
