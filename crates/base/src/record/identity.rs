//! `daemon.id`: the identity of a daemon's leader.

/// The kernel reuses pids. Pid, start time and boot together name one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub leader: i32,
    /// As [`crate::os::Process::start`].
    pub start: u64,
    /// [`crate::os::boot_id`]: pid and start time are valid only in this boot and pid namespace.
    pub boot: String,
    /// The POSIX session that the keeper made.
    pub session: i32,
    /// The leader's process group at the start.
    pub group: i32,
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
        // In an older version the leader made the POSIX session and the group.
        let mut identity = Self { leader, start, boot, session: leader, group: leader };
        for line in lines {
            let number = |text: &str| text.parse().ok().filter(|number| *number > 1);
            if let Some(text) = line.strip_prefix("session ") {
                identity.session = number(text)?;
            } else if let Some(text) = line.strip_prefix("group ") {
                identity.group = number(text)?;
            }
        }
        Some(identity)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { leader, start, boot, session, group } = self;
        writeln!(f, "{TITLE}\npid {leader}\nstart {start}\nboot {boot}\nsession {session}\ngroup {group}")
    }
}
